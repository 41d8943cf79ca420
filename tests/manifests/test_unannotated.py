"""Splits that nobody has annotated: taken where they are named as such, and never by mistake."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from dataset_files import jpeg, put, voc_object, voc_xml
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests import Dataset, DatasetError, ReadOptions, import_dataset, load_registered, read_coco, read_yolo, refresh
from manifests.describe import describe
from manifests.readers.folders import read_folders
from manifests.readers.voc import read_voc
from pipeline import cli

PICTURES = [jpeg(seed=seed) for seed in range(6)]
XML = voc_xml(voc_object("cat", (1, 1, 9, 9)))
Make = Callable[[Path, Sequence[bool]], Path]  # a folder with the train picture a.jpg, and test ones that are annotated


def names(annotated: Sequence[bool]) -> list[str]:
    return [f"t{number}" for number in range(len(annotated))]


def voc_list(root: Path, annotated: Sequence[bool]) -> Path:
    put(root, {"JPEGImages/a.jpg": PICTURES[0], "Annotations/a.xml": XML, "ImageSets/Main/train.txt": "a\n"})
    for number, name in enumerate(names(annotated), 1):
        put(root, {f"JPEGImages/{name}.jpg": PICTURES[number]})
        put(root, {f"Annotations/{name}.xml": XML} if annotated[number - 1] else {})
    return put(root, {"ImageSets/Main/test.txt": "\n".join(names(annotated))})


def voc_folders(root: Path, annotated: Sequence[bool]) -> Path:
    put(root, {"train/a.jpg": PICTURES[0], "train/a.xml": XML})
    for number, name in enumerate(names(annotated), 1):
        put(root, {f"test/{name}.jpg": PICTURES[number]})
        put(root, {f"test/{name}.xml": XML} if annotated[number - 1] else {})
    return root


def document(images: Sequence[tuple[int, str]], annotated: Sequence[bool]) -> dict[str, object]:
    objects = [
        {"id": i, "image_id": i, "category_id": 4, "bbox": [0, 0, 8, 8]}
        for (i, _), one in zip(images, annotated, strict=True)
        if one
    ]
    rows = [{"id": i, "file_name": name, "width": 40, "height": 30} for i, name in images]
    return {"images": rows, "annotations": objects, "categories": [{"id": 4, "name": "cat"}]}


def coco(root: Path, annotated: Sequence[bool]) -> Path:
    """Lay files out as COCO does its test sets: no list of annotations at all, unless there are some."""
    put(root, {"train2017/a.jpg": PICTURES[0]} | {f"test2017/{n}.jpg": PICTURES[1] for n in names(annotated)})
    tested = document([(70 + i, f"{name}.jpg") for i, name in enumerate(names(annotated))], annotated)
    if not any(annotated):
        del tested["annotations"]
    put(root, {"annotations/instances_train2017.json": json.dumps(document([(5, "a.jpg")], [True]))})
    return put(root, {"annotations/image_info_test2017.json": json.dumps(tested)})


def coco_folders(root: Path, annotated: Sequence[bool]) -> Path:
    """Write a COCO dataset as Roboflow lays it out; where nothing is annotated there is just a folder of pictures."""
    put(root, {"train/a.jpg": PICTURES[0]} | {f"test/{n}.jpg": PICTURES[1] for n in names(annotated)})
    put(root, {"train/_annotations.coco.json": json.dumps(document([(5, "a.jpg")], [True]))})
    if any(annotated):
        tested = document([(70 + i, f"{name}.jpg") for i, name in enumerate(names(annotated))], annotated)
        put(root, {"test/_annotations.coco.json": json.dumps(tested)})
    return root


def yolo(root: Path, annotated: Sequence[bool]) -> Path:
    put(root, {"data.yaml": "train: images/train\ntest: images/test\nnames: [cat]"})
    put(root, {"images/train/a.jpg": PICTURES[0], "labels/train/a.txt": "0 .5 .5 .5 .5"})
    for number, name in enumerate(names(annotated), 1):
        put(root, {f"images/test/{name}.jpg": PICTURES[number]})
        put(root, {f"labels/test/{name}.txt": "0 .5 .5 .5 .5"} if annotated[number - 1] else {})
    return root


def yolo_empty_files(root: Path, annotated: Sequence[bool]) -> Path:
    yolo(root, annotated)
    bare = [name for name, one in zip(names(annotated), annotated, strict=True) if not one]
    return put(root, {f"labels/test/{name}.txt": "\n" for name in bare})


READ: dict[Make, Callable[..., tuple[Dataset, Path, list[str]]]] = {
    voc_list: read_voc,
    voc_folders: read_voc,
    coco: read_coco,
    coco_folders: read_coco,
    yolo: read_yolo,
    yolo_empty_files: read_yolo,
}
forms = pytest.mark.parametrize("make", READ, ids=lambda make: make.__name__)


def read(make: Make, root: Path, annotated: Sequence[bool], **options: object) -> tuple[Dataset, list[str]]:
    dataset, _, notes = READ[make](make(root, annotated), ReadOptions(**options))  # type: ignore[arg-type]
    return dataset, notes


def shape(dataset: Dataset) -> list[tuple[str, str, int, bool]]:
    return sorted((image.name, image.split, len(image.boxes), image.annotated) for image in dataset.images)


@forms
def test_a_split_without_annotations_is_taken_where_it_is_named(make: Make, tmp_path: Path) -> None:
    dataset, notes = read(make, tmp_path, [False] * 3, unannotated=("test",))
    assert shape(dataset) == [("a", "train", 1, True), *((f"t{i}", "test", 0, False) for i in range(3))]
    assert dataset.classes == ("cat",)
    assert "split test: its 3 images are taken as nobody's having annotated them" in notes
    assert not [note for note in notes if "no label file" in note or "left out" in note]
    assert "split test: nobody has annotated its 3 images" in describe(dataset)


@forms
@settings(max_examples=6, deadline=None)
@given(annotated=st.lists(st.booleans(), min_size=1, max_size=4).filter(any))
def test_one_that_is_annotated_in_part_or_in_full_is_refused_in_a_line(
    make: Make, tmp_path_factory: pytest.TempPathFactory, annotated: list[bool]
) -> None:
    root = tmp_path_factory.mktemp("data")
    with pytest.raises(DatasetError) as caught:
        read(make, root, annotated, unannotated=("test",))
    (line,) = caught.value.problems
    assert line.startswith(f"split test: {sum(annotated)} of its {len(annotated)} images are annotated (such as ")
    assert line.endswith("leave it out there, or these annotations by --ignore-annotations")
    # the documented rule: what is there may be left out, and is then not even read
    dataset, notes = read(make, root, annotated, unannotated=("test",), ignore_annotations=True)
    assert [row for row in shape(dataset) if row[1] == "test"] == [
        (f"t{i}", "test", 0, False) for i in range(len(annotated))
    ]
    (note,) = (note for note in notes if note.startswith("split test: its "))
    there = len(annotated) if make is yolo_empty_files else sum(annotated)  # an empty file is not opened either
    assert note.endswith(f"; the annotations of {there} of them are left out, unread")


@forms
def test_what_is_left_unread_may_be_anything(make: Make, tmp_path: Path) -> None:
    make(tmp_path, [True, False])
    for file in tmp_path.rglob("t0.*"):
        if file.suffix in (".xml", ".txt"):
            file.write_bytes(b"\xff no annotation \x00")
    dataset, _ = READ[make](tmp_path, ReadOptions(unannotated=("test",), ignore_annotations=True))[::2]
    assert [row[0] for row in shape(dataset) if not row[3]] == ["t0", "t1"]


@pytest.mark.parametrize("make", [voc_list, coco], ids=lambda make: make.__name__)
def test_unnamed_it_is_refused_or_not_seen(make: Make, tmp_path: Path) -> None:
    """A VOC list without XML is a mistake unless it is said not to be; COCO's image_info files are not looked for."""
    if make is coco:
        dataset, _ = read(make, tmp_path, [False, False])
        assert [image.name for image in dataset.images] == ["a"]
        return
    with pytest.raises(DatasetError, match="import with --unannotated test where none of it is annotated") as caught:
        read(make, tmp_path, [True, False, False])
    assert len(caught.value.problems) == 2


def test_yolo_images_without_labels_show_nothing_and_a_note_tells_of_a_split_of_them(tmp_path: Path) -> None:
    dataset, notes = read(yolo, tmp_path / "1", [False, False])
    assert [row for row in shape(dataset) if row[1] == "test"] == [("t0", "test", 0, True), ("t1", "test", 0, True)]
    hint = "split test: none of its 2 images has an object; if nobody has annotated them, say so by --unannotated test"
    assert hint in notes
    assert not [note for note in read(yolo, tmp_path / "2", [False, True])[1] if "none of its" in note]


def test_a_split_to_train_on_needs_annotations(tmp_path: Path) -> None:
    root = yolo(tmp_path, [True, True])
    (root / "labels/train/a.txt").unlink()
    with pytest.raises(DatasetError) as caught:
        read_yolo(root, ReadOptions(on_error="skip"))
    assert caught.value.problems == [
        "split train: none of its 1 images has an object, and without there is nothing to train on; add its "
        "annotations, or remove it"
    ]
    for name in ("train", "Trainval", "training"):
        with pytest.raises(DatasetError, match="is a split to train on, which needs annotations"):
            ReadOptions(unannotated=(name,))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"unannotated": ("tset",)}, "--unannotated tset: the source has no such split (did you mean 'test'?)"),
        ({"unannotated": ("test", "test")}, "one twice; name each split once"),
        ({"unannotated": ("",)}, "has an empty name"),
        ({"ignore_annotations": True}, "ignore_annotations: is for the splits named by unannotated"),
    ],
)
def test_options_that_say_nothing(tmp_path: Path, options: dict[str, object], line: str) -> None:
    with pytest.raises(DatasetError) as caught:
        read(voc_list, tmp_path, [True], **options)
    assert [line in problem for problem in caught.value.problems] == [True]


def test_drawn_splits_and_class_folders_have_none(tmp_path: Path) -> None:
    drawn = put(tmp_path / "drawn", {"a.jpg": PICTURES[0], "a.xml": XML})
    with pytest.raises(DatasetError, match="the source has no splits, and drawn ones are annotated alike"):
        read_voc(drawn, ReadOptions(unannotated=("test",)))
    with pytest.raises(DatasetError, match="in class folders the folder is the annotation"):
        read_folders(tmp_path, ReadOptions(unannotated=("test",)))


def test_an_image_in_such_a_split_and_in_another(tmp_path: Path) -> None:
    root = voc_list(tmp_path, [False, False])
    put(root, {"ImageSets/Main/test_small.txt": "t0\n", "ImageSets/Main/layout.txt": "t1\n"})
    with pytest.raises(DatasetError) as caught:
        read_voc(root, ReadOptions(unannotated=("test",)))
    assert caught.value.problems == [
        "split test: has images that are in layout, test_small, too; name all such splits in --unannotated, or keep "
        "each image in one"
    ]
    dataset, _, _ = read_voc(root, ReadOptions(unannotated=("test", "layout", "test_small")))
    assert dataset.splits == ("layout", "test", "test_small", "train")


def test_image_ids_of_coco_stay_and_a_part_of_a_split_lies_in_its_folder(tmp_path: Path) -> None:
    root = coco(tmp_path, [False, False])
    (root / "annotations/image_info_test2017.json").rename(root / "annotations/image_info_test-dev2017.json")
    dataset, _, _ = read_coco(root, ReadOptions(unannotated=("test-dev",)))
    found = sorted((image.id, image.file_name, image.split) for image in dataset.images)
    assert found == [
        (5, "train2017/a.jpg", "train"),
        (70, "test2017/t0.jpg", "test-dev"),
        (71, "test2017/t1.jpg", "test-dev"),
    ]
    with pytest.raises(DatasetError, match=r"lists images only; import the folder .* with --unannotated test-dev"):
        read_coco(root / "annotations/image_info_test-dev2017.json")


def test_command_refresh_and_our_own_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, project = yolo(tmp_path / "data", [False, False]), tmp_path / "project"
    command = ["rcnn", "-C", str(project), "dataset", "import", "yolo", str(root), "--name", "mine"]
    monkeypatch.setattr("sys.argv", [*command, "--unannotated", "test"])
    project.mkdir()
    cli.main()
    assert "mine: 3 images (test: 2, train: 1)" in capsys.readouterr().out
    first = load_registered("mine", project / "artifacts")
    assert [image.annotated for image in first.dataset.images] == [False, False, True]
    assert refresh("mine", project / "artifacts") == first
    again = project / "artifacts/datasets/mine/manifest.json"
    options = ReadOptions(images=str(root))
    assert import_dataset("coco", again, "again", options, project / "artifacts").dataset.images == first.dataset.images
