"""The manifest stage: which images and classes a run uses."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_arrays import as_boxes, as_flags, as_labels
from pydantic import ValidationError
from stage_context import StageContext

from cache.errors import ParamsError, StageError
from manifests import Dataset, DatasetError, ImageRecord, ReadOptions, import_dataset, load_dataset, save_dataset
from manifests.select import DUPLICATES, select, shared_pictures, training_images, unlisted
from pipeline.params import parse_params
from stages.manifest.settings import ManifestSettings

BOX = [[0, 0, 5, 5]]


def image(number: int, splits: str, labels: list[int], sha: str = "") -> ImageRecord:
    names = tuple(splits.split())
    boxes, digest = as_boxes(BOX * len(labels)), (sha or str(number)) * 64
    return ImageRecord(number, f"{number}.jpg", 10, 10, digest, names[0], boxes, as_labels(labels), splits=names)


DATASET = Dataset(
    "d",
    ("cat", "dog", "cow"),
    (
        image(1, "train trainval", [0, 1]),
        image(2, "val trainval", [1, 2]),
        image(3, "test", [0, 2]),
        image(4, "test", []),
    ),
    (3, 5, 9),
)


def test_splits_get_the_names_train_and_test() -> None:
    chosen = select(DATASET, "trainval", "test", None)
    assert [(i.id, i.split, i.splits) for i in chosen.images] == [
        (1, "train", ("train",)),
        (2, "train", ("train",)),
        (3, "test", ("test",)),
        (4, "test", ("test",)),
    ]
    assert chosen.classes == DATASET.classes


def test_a_list_of_splits_is_their_union_and_each_is_a_part_of_train() -> None:
    chosen = select(DATASET, ["val", "train"], "test", None)
    assert [(i.id, i.split, i.splits) for i in chosen.images] == [
        (1, "train", ("train", "train/train")),
        (2, "train", ("train", "train/val")),
        (3, "test", ("test",)),
        (4, "test", ("test",)),
    ]
    parts = {None: [1, 2], "train": [1], "val": [2], ("val", "train"): [1, 2], ("val",): [2]}
    for named, ids in parts.items():
        assert [i.id for i in training_images(chosen, named)] == ids
    nested = select(DATASET, ["trainval", "train"], "test", None)  # 1.jpg is in both
    assert [i.splits for i in nested.images[:2]] == [
        ("train", "train/trainval", "train/train"),
        ("train", "train/trainval"),
    ]
    assert [i.id for i in training_images(nested, "train")] == [1]


def test_a_list_gives_the_images_that_its_union_gives() -> None:
    """What is trained on, and its order, does not depend on how the splits are named; nor does anything made of it."""
    listed, single = (select(DATASET, train, "test", None) for train in (("train", "val"), "trainval"))
    assert [replace(i, splits=()) for i in listed.images] == [replace(i, splits=()) for i in single.images]
    assert training_images(listed, None) == listed.split("train")


@given(st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True), min_size=1, max_size=6))
def test_any_choice_of_splits_is_a_loop_over_the_images(splits: list[list[str]]) -> None:
    images = tuple(image(n, " ".join(names), [0]) for n, names in enumerate(splits, 1))
    dataset = Dataset("d", ("cat",), (*images, image(9, "test", [0])))
    there = [name for name in "abcd" if any(name in i.splits for i in images)]
    for size in range(1, len(there) + 1):
        for train in combinations(there, size):
            chosen = select(dataset, train, "test", None)
            assert [i.id for i in chosen.split("train")] == [i.id for i in images if set(train) & set(i.splits)]
            for named in train:
                expected = [i.id for i in images if named in i.splits]
                assert [i.id for i in training_images(chosen, named)] == expected


@pytest.mark.parametrize(
    ("named", "train", "lines"),
    [
        (None, "train", []),
        (("a", "b"), ("b", "a", "c"), []),
        ("a", ("a",), []),
        (
            "val",
            "trainval",
            [
                "svm.images = val: manifest.train is the one split 'trainval', and all of it is trained on; list the "
                "splits to choose from there, such as manifest.train: [train, val], or set svm.images to null"
            ],
        ),
        (
            ("trian", "test"),
            ("train", "val"),
            [
                "svm.images: 'trian' is none of the splits that manifest.train lists (train, val) (did you mean "
                "'train'?); name some of these, add it there, or set svm.images to null for all",
                "svm.images: 'test' is none of the splits that manifest.train lists (train, val); name some of these, "
                "add it there, or set svm.images to null for all",
            ],
        ),
    ],
)
def test_splits_that_are_not_trained_on(
    named: tuple[str, ...] | str | None, train: str | tuple[str, ...], lines: list[str]
) -> None:
    assert list(unlisted(named, train, "svm.images")) == lines


@pytest.mark.parametrize("group", ["finetune", "svm", "bbox"])
def test_tasks_are_checked_before_anything_is_computed(group: str) -> None:
    with pytest.raises(ParamsError) as caught:
        parse_params({"manifest": {"train": ["a", "b"]}, group: {"images": "c"}})
    assert str(caught.value).splitlines() == [
        f"params.yaml: {group}.images: 'c' is none of the splits that manifest.train lists (a, b); name some of these, "
        f"add it there, or set {group}.images to null for all"
    ]
    parse_params({"manifest": {"train": ["a", "b"]}, group: {"images": ["b", "a"]}})


def test_classes_are_kept_in_the_order_asked_for() -> None:
    chosen = select(DATASET, "train", "val", ["dog", "cat"])
    assert (chosen.classes, chosen.category_ids) == (("dog", "cat"), (5, 3))
    assert [i.labels.tolist() for i in chosen.images] == [[1, 0], [0]]
    assert [len(i.boxes) for i in chosen.images] == [2, 1]
    assert [len(i.details) for i in chosen.images] == [2, 1]


@pytest.mark.parametrize(
    ("train", "test", "classes", "lines"),
    [
        (
            "trian",
            "tset",
            None,
            [
                "manifest.train: dataset d has no split 'trian'; set it to one of: test (2 images), train (1 images), "
                "trainval (2 images), val (1 images)",
                "manifest.test: dataset d has no split 'tset'; set it to one of: test (2 images), train (1 images), "
                "trainval (2 images), val (1 images)",
            ],
        ),
        (
            "train",
            "test",
            None,
            [
                "class 'cow' has no object in split 'train' (1 in test); leave it out by manifest.classes "
                "(`rcnn params init --min-objects 1` does), "
                "or move images of it there"
            ],
        ),
        ("trainval", "test", ["kat"], ["manifest.classes: dataset d has no class 'kat' (did you mean 'cat'?)"]),
        ("trainval", "test", ["?"], ["manifest.classes: dataset d has no class '?'; it has: cat, dog, cow"]),
        (
            "trainval",
            "val",
            None,
            [
                "manifest.train 'trainval' and manifest.test 'val' share 1 images (such as 2.jpg); "
                "name two splits without a common image"
            ],
        ),
        (
            ["train", "vla", "test"],
            "test",
            None,
            [
                "manifest.train: dataset d has no split 'vla'; set it to one of: test (2 images), train (1 images), "
                "trainval (2 images), val (1 images)"
            ],
        ),
        (
            ["train", "trainval"],
            "val",
            None,
            [
                "manifest.train 'train' + 'trainval' and manifest.test 'val' share 1 images (such as 2.jpg); "
                "name two splits without a common image"
            ],
        ),
    ],
)
def test_errors(train: str | list[str], test: str, classes: list[str] | None, lines: list[str]) -> None:
    with pytest.raises(StageError) as caught:
        select(DATASET, train, test, classes)
    assert str(caught.value).splitlines() == lines


@pytest.mark.parametrize("train", ["pool", ("train", "pool")])
def test_a_split_that_nobody_has_annotated_is_tested_on_and_never_trained_on(train: str | tuple[str, ...]) -> None:
    bare = (image(5, "pool", []), image(6, "pool", []))
    dataset = replace(DATASET, images=(*DATASET.images, *(replace(one, annotated=False) for one in bare)))
    tested = select(dataset, "trainval", "pool", None).split("test")
    assert [(i.id, i.annotated) for i in tested] == [(5, False), (6, False)]
    with pytest.raises(StageError) as caught:
        select(dataset, train, "test", None)
    assert str(caught.value).startswith(
        "manifest.train: split 'pool' of dataset d was imported as one that nobody has "
    )


def test_crowd_regions_are_no_positives() -> None:
    crowd = ImageRecord(1, "1.jpg", 10, 10, "1" * 64, "train", as_boxes(BOX), as_labels([0]), crowd=as_flags([True]))
    with pytest.raises(StageError, match="class 'cat' has no object"):
        select(Dataset("d", ("cat",), (crowd, image(2, "test", [0]))), "train", "test", None)


BAD = [
    {"train": ""},
    {"train": []},
    {"train": ["a", "a"]},
    {"train": ["a", ""]},
    {"classes": []},
    {"classes": ["a", "a"]},
    {"trian": "x"},
]


@pytest.mark.parametrize("bad", BAD)
def test_settings_are_strict(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ManifestSettings(**bad)


@pytest.fixture
def context(make_voc: Callable[..., Path], tmp_path: Path) -> StageContext:
    import_dataset("voc", make_voc(), "toy", ReadOptions(), tmp_path / "artifacts")
    return StageContext(tmp_path, "manifest", {})


def test_run(context: StageContext) -> None:
    context.run()
    written = load_dataset(context.output("manifest"))
    assert written.splits == ("test", "train")
    assert context.log.infos == ["toy: 1 train and 1 test images, 2 classes"]


def test_run_with_a_list_of_splits(context: StageContext) -> None:
    context.run()
    single = context.output("manifest").read_bytes()
    context.change(manifest=ManifestSettings(train=("train",)))
    context.run()
    written = load_dataset(context.output("manifest"))
    assert written.splits == ("test", "train", "train/train")
    assert single.replace(b'["train"]', b'["train", "train/train"]') == context.output("manifest").read_bytes()


def test_run_names_every_changed_file(context: StageContext, tmp_path: Path) -> None:
    (tmp_path / "voc/JPEGImages/a.jpg").write_bytes(b"x")
    (tmp_path / "voc/JPEGImages/b.jpg").unlink()
    with pytest.raises(DatasetError) as caught:
        context.run()
    assert [line[:20] for line in caught.value.problems] == ["a.jpg: the file in " + "/", "b.jpg: there is no s"]
    assert not context.output("manifest").exists()


def test_run_warns_of_pictures_in_both_splits(context: StageContext, tmp_path: Path) -> None:
    images = tmp_path / "voc/JPEGImages"
    (images / "b.jpg").write_bytes((images / "a.jpg").read_bytes())
    import_dataset("voc", tmp_path / "voc", "toy", ReadOptions(), tmp_path / "artifacts")
    context.run()
    assert context.log.warnings == ["b.jpg (test) is the same picture as a.jpg (train); its score says nothing"]


def test_images_annotated_in_part_are_told_and_limited(tmp_path: Path, make_voc: Callable[..., Path]) -> None:
    import_dataset("voc", make_voc(), "toy", ReadOptions(), tmp_path / "artifacts")
    path = tmp_path / "artifacts/datasets/toy/manifest.json"
    data = load_dataset(path)
    save_dataset(replace(data, images=tuple(replace(one, exhaustive=False) for one in data.images)), path)
    context = StageContext(tmp_path, "manifest", {"manifest": ManifestSettings()})
    context.run()
    assert "1 train images are annotated in part: their 2 objects are positives" in context.log.infos[-1]
    assert "1 of 1 test images are annotated in part" in context.log.warnings[-1]
    assert [len(one.labels) for one in load_dataset(context.output("manifest")).images] == [2, 2]
    context.update("manifest", train_limit=1)
    context.run()
    assert [len(one.labels) for one in load_dataset(context.output("manifest")).images] == [2, 2]  # one of each class


def test_duplicates_leave_train_and_stay_in_test_with_a_mark() -> None:
    chosen = select(DATASET, ["val", "train"], "test", ["dog"], [DATASET.images[0], DATASET.images[3]])
    assert [(i.id, i.splits) for i in chosen.images] == [
        (2, ("train", "train/val")),
        (3, ("test",)),
        (4, ("test", DUPLICATES)),
    ]
    # one in neither split is no matter
    assert select(DATASET, "train", "test", ["dog"], [DATASET.images[1]]) == select(DATASET, "train", "test", ["dog"])
    for images, split in ((DATASET.images[:2], "train"), (DATASET.images[2:], "test")):
        with pytest.raises(StageError, match=f"manifest.drop_duplicates: the file lists every image of {split}"):
            select(DATASET, "trainval", "test", None, images)


def test_of_pictures_of_one_class_each_duplicates_are_left_out_of_both() -> None:
    splits = ("train", "train", "test", "test")
    images = tuple(replace(image(number, split, []), category=0) for number, split in enumerate(splits))
    chosen = select(Dataset("d", ("cat",), images), "train", "test", None, [images[0], images[3]])
    assert [(i.id, i.splits) for i in chosen.images] == [(1, ("train",)), (2, ("test",))]


def test_run_reads_the_list_of_duplicates(context: StageContext, tmp_path: Path) -> None:
    context.run()
    plain = context.output("manifest").read_bytes()
    tested = load_dataset(context.output("manifest")).split("test")[0].file_name
    (tmp_path / "list").write_text(f"# none\n{tested}\n")
    context.change(manifest=ManifestSettings(drop_duplicates=str(tmp_path / "list")))
    with pytest.raises(StageError, match="lists every image of test"):
        context.run()
    (tmp_path / "list").write_text("# none\n")
    context.run()
    assert context.output("manifest").read_bytes() == plain
    (tmp_path / "list").write_text("nobody\n")
    with pytest.raises(DatasetError, match=r"^manifest\.drop_duplicates: .*list: line 1: dataset toy has no image"):
        context.run()


def test_pictures_that_are_listed_are_not_warned_of() -> None:
    twins = (image(1, "train", [0], "a"), image(2, "test", [0], "a"), image(3, "test", [0]))
    dataset = Dataset("d", ("cat",), twins)
    assert shared_pictures(select(dataset, "train", "test", None).images) == [("1.jpg", "2.jpg")]
    assert shared_pictures(select(dataset, "train", "test", None, twins[1:2]).images) == []
