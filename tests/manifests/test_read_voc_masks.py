"""VOC's masks: which pixels belong to which object and class, and every way in which they can be wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dataset_files import jpeg, put, voc_object, voc_xml
from numpy.typing import NDArray

from manifests import DatasetError, ImageSource, ReadOptions, import_dataset, read_voc
from manifests.masks import label_map_png, read_masks
from manifests.select import check_files

CAT, DOG, VOID = 8, 12, 255  # VOC's own values
Maps = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def maps() -> Maps:
    """Class and object map of the cat (1, 1, 10, 10) and the dog (11, 5, 40, 30) that ``make_voc`` writes."""
    classes, numbers = (np.zeros((30, 40), np.uint8) for _ in range(2))
    classes[2:9, 2:9], numbers[2:9, 2:9] = CAT, 1
    classes[6:28, 12:38], numbers[6:28, 12:38] = DOG, 2
    for drawn in (classes, numbers):
        drawn[6:28, 12] = VOID
    return classes, numbers


def with_masks(root: Path, made: Maps, ids: str = "ab", lists: bool = True) -> Path:
    """Put the same two maps beside each image of a VOC folder, and lists of ImageSets/Segmentation."""
    files: dict[str, bytes | str] = {}
    for name in ids:
        files[f"SegmentationClass/{name}.png"] = label_map_png(made[0])
        files[f"SegmentationObject/{name}.png"] = label_map_png(made[1])
    if lists:
        files |= {"ImageSets/Segmentation/train.txt": "a\n", "ImageSets/Segmentation/val.txt": "b\n"}
    return put(root, files)


def test_objects_are_those_of_the_maps(make_voc: Callable[..., Path], tmp_path: Path) -> None:
    found = import_dataset(
        "voc", with_masks(make_voc(), maps()), "pets", ReadOptions(segmentation=True), tmp_path / "artifacts"
    )
    data, source = found.dataset, ImageSource.registered(tmp_path / "artifacts/datasets/pets")
    assert (data.classes, data.category_ids) == (("cat", "dog"), (CAT, DOG))
    assert data.splits == ("train", "val") and found.source.notes == ()
    classes, numbers = maps()
    for image in data.images:
        masks = read_masks(source, image, data.category_ids)
        np.testing.assert_array_equal(masks.objects, [numbers == 1, numbers == 2])
        np.testing.assert_array_equal(masks.void, classes == VOID)
        assert (masks.classes.tolist(), masks.rows.tolist()) == ([0, 1], [0, 1])
        expected = np.select([classes == CAT, classes == DOG, classes == VOID], [1, 2, VOID], 0)
        np.testing.assert_array_equal(masks.class_map(), expected)


def test_without_the_option_nothing_changes(make_voc: Callable[..., Path]) -> None:
    data, _, notes = read_voc(with_masks(make_voc(), maps()))
    assert data.splits == ("test", "train") and data.category_ids == (1, 2) and notes == []
    assert all(image.masks is None and "mask" not in image.details[0] for image in data.images)


def test_without_object_maps_a_class_is_one_object(make_voc: Callable[..., Path], tmp_path: Path) -> None:
    root = with_masks(make_voc(), maps())
    for file in (root / "SegmentationObject").iterdir():
        file.unlink()
    (root / "SegmentationObject").rmdir()
    found = import_dataset("voc", root, "pets", ReadOptions(segmentation=True), tmp_path / "artifacts")
    masks = read_masks(
        ImageSource.registered(tmp_path / "artifacts/datasets/pets"), found.dataset.images[0], (CAT, DOG)
    )
    assert (masks.classes.tolist(), masks.rows.tolist()) == ([0, 1], [-1, -1])
    assert "all that one class has in an image is one object" in "\n".join(found.source.notes)


def test_other_classes_are_numbered_by_name_or_as_given(make_voc: Callable[..., Path], tmp_path: Path) -> None:
    xml = {i: voc_xml(voc_object("zebu", (1, 1, 10, 10)) + voc_object("auk", (11, 5, 40, 30))) for i in "ab"}
    classes, numbers = maps()
    one, two = np.select([classes == CAT, classes == DOG, classes == VOID], [2, 1, VOID], 0).astype(np.uint8), numbers
    root = with_masks(make_voc(xml), (one, two))
    read = import_dataset("voc", root, "birds", ReadOptions(segmentation=True), tmp_path / "artifacts")
    assert dict(zip(read.dataset.classes, read.dataset.category_ids, strict=True)) == {"auk": 1, "zebu": 2}
    assert "values are taken as the classes sorted by name (1 auk, 2 zebu)" in "\n".join(read.source.notes)
    assert [detail["mask"] for detail in read.dataset.images[0].details] == [1, 2]
    swapped = ReadOptions(segmentation=True, classes=("zebu", "auk"))
    other = import_dataset("voc", root, "birds", swapped, tmp_path / "artifacts")
    assert "another class" not in other.dataset.classes and all(
        "mask" not in d for d in other.dataset.images[0].details
    )
    assert "is a 'zebu', but 'auk' in SegmentationClass" in "\n".join(other.source.notes)


def test_what_does_not_fit_the_boxes_is_told(make_voc: Callable[..., Path], tmp_path: Path) -> None:
    """An object without a pixel has no mask, one without an <object> no box; a class outside all objects is kept."""
    classes, numbers = maps()
    numbers[numbers == 1], numbers[numbers == 2] = 0, 3
    found = import_dataset(
        "voc", with_masks(make_voc(), (classes, numbers)), "p", ReadOptions(segmentation=True), tmp_path / "artifacts"
    )
    masks = read_masks(ImageSource.registered(tmp_path / "artifacts/datasets/p"), found.dataset.images[0], (CAT, DOG))
    assert (masks.classes.tolist(), masks.rows.tolist()) == ([1, 0], [-1, -1])
    np.testing.assert_array_equal(masks.objects, [numbers == 3, classes == CAT])
    notes = "\n".join(found.source.notes)
    assert "a.xml: object 1: has no pixel in SegmentationObject" in notes
    assert "SegmentationObject/a.png: 1 of its objects have no <object> of their class" in notes


def with_few(value: int) -> NDArray[np.uint8]:
    """The class map with 9 pixels of another value inside the cat, most of which stay the cat's."""
    classes, _ = maps()
    classes[4:7, 4:7] = value
    return classes


def small() -> bytes:
    return label_map_png(np.zeros((10, 10), np.uint8))


WRONG: list[tuple[dict[str, bytes | None], str]] = [
    ({"SegmentationClass/a.png": None}, r"SegmentationClass/a.png: there is no such file, but a.jpg is in the dataset"),
    ({"SegmentationClass/a.png": b""}, r"SegmentationClass/a.png: the file is empty"),
    ({"SegmentationClass/a.png": label_map_png(maps()[0])[:60]}, r"SegmentationClass/a.png: the mask is cut short"),
    ({"SegmentationObject/a.png": jpeg()}, r"SegmentationObject/a.png: is a JPEG picture, .* not PNG"),
    ({"SegmentationObject/a.png": small()}, r"SegmentationObject/a.png: is 10 x 10 but SegmentationClass/a.png is"),
    (
        {"SegmentationObject/a.png": small(), "SegmentationClass/a.png": small()},
        r"SegmentationClass/a.png: is 10 x 10 but its image a.jpg is 40 x 30; make the mask of the image's size",
    ),
    (
        {"SegmentationClass/a.png": label_map_png(np.full((30, 40), 77, np.uint8))},
        r"SegmentationClass/a.png: has the value 77, which no class has",
    ),
    (
        {"SegmentationClass/a.png": label_map_png(with_few(77))},
        r"SegmentationClass/a.png: has the value 77, which no class has \(8 cat, 12 dog, ...\)",
    ),
]


@pytest.mark.parametrize(("files", "match"), WRONG)
def test_masks_that_are_wrong(
    make_voc: Callable[..., Path], files: dict[str, bytes | None], match: str, tmp_path: Path
) -> None:
    """Each is one line that names the file; --on-error skip leaves out just that image."""
    root = with_masks(make_voc(), maps())
    for name, data in files.items():
        (root / name).unlink()
        if data is not None:
            (root / name).write_bytes(data)
    with pytest.raises(DatasetError, match=match) as caught:
        read_voc(root, ReadOptions(segmentation=True))
    assert len(caught.value.problems) == 1
    kept, _, notes = read_voc(root, ReadOptions(segmentation=True, on_error="skip"))
    assert [image.name for image in kept.images] == ["b"]
    assert any(line.startswith("left out: ") for line in notes)


def test_a_few_pixels_of_another_class_of_vocs(make_voc: Callable[..., Path]) -> None:
    """They have a name, and count as their object's class; of classes given by name they have none."""
    root = with_masks(make_voc(), (with_few(5), maps()[1]))
    assert read_voc(root, ReadOptions(segmentation=True))[0].classes == ("cat", "dog")
    given = (*(f"c{i}" for i in range(1, CAT)), "cat", "c9", "c10", "c11", "dog")
    root = with_masks(root, (with_few(13), maps()[1]))
    with pytest.raises(DatasetError, match=r"has the value 13, which no class has \(1 c1, 2 c2, 3 c3, \.\.\.\)"):
        read_voc(root, ReadOptions(segmentation=True, classes=given))


def test_all_problems_in_one_report(make_voc: Callable[..., Path]) -> None:
    root = with_masks(make_voc(), maps())
    (root / "SegmentationClass/a.png").write_bytes(jpeg())
    (root / "SegmentationClass/b.png").write_bytes(label_map_png(np.full((30, 40), 77, np.uint8)))
    with pytest.raises(DatasetError) as caught:
        read_voc(root, ReadOptions(segmentation=True))
    assert [line.partition(":")[0] for line in caught.value.problems if "Segmentation" in line] == [
        "SegmentationClass/a.png",
        "SegmentationClass/b.png",
    ]


def test_no_masks_at_all(make_voc: Callable[..., Path]) -> None:
    with pytest.raises(DatasetError, match="has no SegmentationClass/; add the masks, or import without"):
        read_voc(make_voc(), ReadOptions(segmentation=True))


def test_a_changed_mask_is_refused(make_voc: Callable[..., Path], tmp_path: Path) -> None:
    root = with_masks(make_voc(), maps())
    found = import_dataset("voc", root, "pets", ReadOptions(segmentation=True), tmp_path / "artifacts")
    source = ImageSource.registered(tmp_path / "artifacts/datasets/pets")
    (root / "SegmentationObject/a.png").write_bytes(small())
    with pytest.raises(DatasetError, match=r"SegmentationObject/a.png: the file in .* changed since .*refresh pets"):
        read_masks(source, found.dataset.images[0], found.dataset.category_ids)
    with pytest.raises(DatasetError, match=r"SegmentationObject/a.png: the file in"):
        check_files(found.dataset.images, source, 2)
    (root / "SegmentationObject/a.png").unlink()
    with pytest.raises(DatasetError, match=r"SegmentationObject/a.png: there is no such file in .* any more"):
        read_masks(source, found.dataset.images[0], found.dataset.category_ids)


def test_a_split_that_nobody_has_annotated_needs_no_masks(make_voc: Callable[..., Path], tmp_path: Path) -> None:
    """VOC's test pictures since 2010 have neither boxes nor masks."""
    root = with_masks(make_voc(), maps())
    put(root, {"JPEGImages/c.jpg": jpeg(seed=9), "ImageSets/Segmentation/test.txt": "c\n"})
    with pytest.raises(DatasetError, match=r"Annotations/c\.xml: there is no such file .* --unannotated test"):
        read_voc(root, ReadOptions(segmentation=True))
    options = ReadOptions(segmentation=True, unannotated=("test",))
    found = import_dataset("voc", root, "pets", options, tmp_path / "artifacts")
    assert {image.name: image.masks is not None for image in found.dataset.images} == {"a": True, "b": True, "c": False}
    with pytest.raises(DatasetError, match=r"c\.jpg: has no masks; import its dataset with masks"):
        source = ImageSource.registered(tmp_path / "artifacts/datasets/pets")
        read_masks(source, found.dataset.image("c"), found.dataset.category_ids)
