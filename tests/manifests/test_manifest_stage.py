"""The manifest stage: which images and classes a run uses."""

import pytest
from pydantic import ValidationError
from stage_context import StageContext

from cache.errors import StageError
from manifests import Dataset, DatasetError, ImageRecord, ReadOptions, import_dataset, load_dataset
from manifests.select import select
from stages.manifest.settings import ManifestSettings

BOX = [[0, 0, 5, 5]]


def image(number: int, splits: str, labels: list[int], sha: str = "") -> ImageRecord:
    names = tuple(splits.split())
    return ImageRecord(
        number, f"{number}.jpg", 10, 10, (sha or str(number)) * 64, names[0], BOX * len(labels), labels, splits=names
    )


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


def test_splits_get_the_names_train_and_test():
    chosen = select(DATASET, "trainval", "test", None)
    assert [(i.id, i.split, i.splits) for i in chosen.images] == [
        (1, "train", ("train",)),
        (2, "train", ("train",)),
        (3, "test", ("test",)),
        (4, "test", ("test",)),
    ]
    assert chosen.classes == DATASET.classes


def test_classes_are_kept_in_the_order_asked_for():
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
                "class 'cow' has no object in split 'train' (1 in test); leave it out by manifest.classes, "
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
    ],
)
def test_errors(train, test, classes, lines):
    with pytest.raises(StageError) as caught:
        select(DATASET, train, test, classes)
    assert str(caught.value).splitlines() == lines


def test_crowd_regions_are_no_positives():
    crowd = ImageRecord(1, "1.jpg", 10, 10, "1" * 64, "train", BOX, [0], crowd=[True])
    with pytest.raises(StageError, match="class 'cat' has no object"):
        select(Dataset("d", ("cat",), (crowd, image(2, "test", [0]))), "train", "test", None)


@pytest.mark.parametrize("bad", [{"train": ""}, {"classes": []}, {"classes": ["a", "a"]}, {"trian": "x"}])
def test_settings_are_strict(bad):
    with pytest.raises(ValidationError):
        ManifestSettings(**bad)


@pytest.fixture
def context(make_voc, tmp_path):
    import_dataset("voc", make_voc(), "toy", ReadOptions(), tmp_path / "artifacts")
    return StageContext(tmp_path, "manifest", {})


def test_run(context):
    context.run()
    written = load_dataset(context.output("manifest"))
    assert written.splits == ("test", "train")
    assert context.log.infos == ["toy: 1 train and 1 test images, 2 classes"]


def test_run_names_every_changed_file(context, tmp_path):
    (tmp_path / "voc/JPEGImages/a.jpg").write_bytes(b"x")
    (tmp_path / "voc/JPEGImages/b.jpg").unlink()
    with pytest.raises(DatasetError) as caught:
        context.run()
    assert [line[:20] for line in caught.value.problems] == ["a.jpg: the file in " + "/", "b.jpg: there is no s"]
    assert not context.output("manifest").exists()


def test_run_warns_of_pictures_in_both_splits(context, tmp_path):
    images = tmp_path / "voc/JPEGImages"
    (images / "b.jpg").write_bytes((images / "a.jpg").read_bytes())
    import_dataset("voc", tmp_path / "voc", "toy", ReadOptions(), tmp_path / "artifacts")
    context.run()
    assert context.log.warnings == ["b.jpg (test) is the same picture as a.jpg (train); its score says nothing"]
