"""One image's masks in every form that is read: they are the same, and so is what is asked of them."""

import io
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import jpeg, put
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mask_files import box, png, sbd_mat, write_coco, write_panoptic, write_voc
from numpy.typing import NDArray
from PIL import Image

from manifests import Dataset, DatasetError, ImageSource, ReadOptions, import_dataset
from manifests.masks import Masks, label_map_png, masks_digest, read_masks
from manifests.select import select

NAMES = {1: "aeroplane", 8: "cat", 12: "dog"}
# Object 1 and 2 are of any classes, 0 is background and 3 is void.
IMAGES = st.tuples(st.integers(3, 12), st.integers(3, 12)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 3))
)


def read(kind: str, root: Path, project: Path) -> tuple[Masks, Dataset]:
    """Import one image and read its masks."""
    options = ReadOptions(segmentation=kind in ("voc", "coco"), images=None if kind == "voc" else str(root / "images"))
    data = import_dataset(kind, root, "one", options, project / "artifacts").dataset
    source = ImageSource.registered(project / "artifacts/datasets/one")
    return read_masks(source, data.images[0], data.category_ids), data


def named_pixels(masks: Masks, data: Dataset) -> NDArray[np.str_]:
    """The class of each pixel, as text, so that datasets with other classes can be compared."""
    names = np.array(["", *data.classes, *["?"] * (254 - len(data.classes)), "void"])
    return names[masks.class_map()]


@settings(deadline=None, max_examples=25)
@given(IMAGES, st.lists(st.sampled_from(sorted(NAMES)), min_size=2, max_size=2))
def test_voc_coco_and_panoptic_agree(drawn: Any, values: list[int]) -> None:
    """Objects, their classes and boxes, and void are the same, whatever form they come in.

    An object of one pixel's width has in VOC's XML a box that is refused, as a click without a drag.
    """
    void = drawn == 3
    objects = [(NAMES[value], value, drawn == i) for i, value in enumerate(values, start=1) if (drawn == i).any()]
    assume(objects and all(min(x2 - x1, y2 - y1) > 1 for x1, y1, x2, y2 in (box(mask) for _, _, mask in objects)))
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        forms = {"voc": write_voc, "coco": write_coco, "panoptic": write_panoptic}
        results = {k: read(k, write(top / k, objects, void), top / f"p_{k}") for k, write in forms.items()}
    expected = np.full(drawn.shape, "", dtype="<U9")
    for label, _, mask in objects:
        expected[mask] = label
    expected[void] = "void"
    for kind, (masks, data) in results.items():
        np.testing.assert_array_equal(masks.objects, [mask for _, _, mask in objects], err_msg=kind)
        np.testing.assert_array_equal(masks.void, void, err_msg=kind)
        np.testing.assert_array_equal(named_pixels(masks, data), expected, err_msg=kind)
        assert [data.classes[label] for label in masks.classes] == [label for label, _, _ in objects]
        assert masks.rows.tolist() == list(range(len(objects)))
        np.testing.assert_array_equal(data.images[0].boxes[: len(objects)], [box(mask) for _, _, mask in objects])


CLASSES = np.array([[0, 0, 8, 8], [0, 12, 255, 8], [8, 0, 0, 8]], np.uint8)
OBJECTS = np.array([[0, 0, 1, 1], [0, 3, 255, 1], [2, 0, 0, 1]], np.uint8)
OBJECTS_PNG = label_map_png(OBJECTS)
NAMES_TXT = "0: background\n8: cat\n12: dog\n"


def folder(root: Path, **files: Any) -> Path:
    """A folder of one image with a mask of 4 x 3 px."""
    own: dict[str, Any] = {"images/a.jpg": jpeg(4, 3), "masks/a.png": label_map_png(CLASSES), "names.txt": NAMES_TXT}
    return put(root, {**own, **{name.replace("__", "/").replace("_png", ".png"): data for name, data in files.items()}})


def imported(root: Path, project: Path, kind: str = "masks", **options: Any) -> tuple[Masks, Dataset, list[str]]:
    found = import_dataset(kind, root, "one", ReadOptions(**options), project / "artifacts")
    source = ImageSource.registered(project / "artifacts/datasets/one")
    return (
        read_masks(source, found.dataset.images[0], found.dataset.category_ids),
        found.dataset,
        list(found.source.notes),
    )


def test_a_folder_of_masks(tmp_path: Path) -> None:
    """A class without object maps is one object, whose box is that of all its pixels."""
    masks, data, notes = imported(folder(tmp_path / "data"), tmp_path)
    assert (data.classes, data.category_ids) == (("cat", "dog"), (8, 12))
    np.testing.assert_array_equal(masks.objects, [CLASSES == 8, CLASSES == 12])
    np.testing.assert_array_equal(masks.void, CLASSES == 255)
    assert data.images[0].boxes.tolist() == [[0, 0, 4, 3], [1, 1, 2, 2]]
    assert (masks.classes.tolist(), masks.rows.tolist()) == ([0, 1], [0, 1])
    assert any("all that one class has in an image is one object" in note for note in notes)


def test_a_folder_with_object_maps(tmp_path: Path) -> None:
    root = folder(tmp_path / "data", objects__a_png=label_map_png(OBJECTS))
    masks, data, _ = imported(root, tmp_path)
    np.testing.assert_array_equal(masks.objects, [OBJECTS == 1, OBJECTS == 2, OBJECTS == 3])
    assert [data.classes[label] for label in masks.classes] == ["cat", "cat", "dog"]
    assert data.images[0].boxes.tolist() == [[2, 0, 4, 3], [0, 2, 1, 3], [1, 1, 2, 2]]


def test_masks_that_were_shrunk_are_noted_once(tmp_path: Path) -> None:
    """Import and reading take the same labels, those of the colours."""
    image = Image.open(io.BytesIO(label_map_png(CLASSES))).convert("RGB").quantize(4)
    shrunk = io.BytesIO()
    image.save(shrunk, "PNG")
    assert sorted(np.unique(np.asarray(image))) == [0, 1, 2, 3]
    root = folder(tmp_path / "data", masks__a_png=shrunk.getvalue())
    put(root, {"images/b.jpg": jpeg(4, 3, seed=1), "masks/b.png": shrunk.getvalue()})
    masks, data, notes = imported(root, tmp_path)
    np.testing.assert_array_equal(masks.objects, [CLASSES == 8, CLASSES == 12])
    assert data.images[0].boxes.tolist() == [[0, 0, 4, 3], [1, 1, 2, 2]]
    told = [note for note in notes if "in another order" in note]
    assert len(told) == 1 and told[0].startswith("2 masks have VOC's colours in another order than VOC (such as ")
    _, _, notes = imported(folder(tmp_path / "plain"), tmp_path)
    assert not any("in another order" in note for note in notes)


@pytest.mark.parametrize(
    ("names", "values", "options", "categories"),
    [
        ("background\ncat\ndog\n", {8: 1, 12: 2}, {}, {"cat": 1, "dog": 2}),
        ("cat\ndog\nsky\n", {0: 2, 8: 0, 12: 1}, {"background": False}, {"cat": 0, "dog": 1, "sky": 2}),
        # COCO-Stuff: the maps' values are one less than its labels' numbers
        ("0: unlabeled\n1: cat\n2: dog\n3: sky\n", {0: 2, 8: 0, 12: 1}, {"shift": 1}, {"cat": 1, "dog": 2, "sky": 3}),
        ("background\ncat\ndog\nedge\n", {8: 1, 12: 2, 255: 3}, {"void": 3}, {"cat": 1, "dog": 2}),
        ("void\ncat\ndog\nsky\n", {0: 3, 8: 1, 12: 2, 255: 0}, {"void": 0}, {"cat": 1, "dog": 2, "sky": 3}),
        ("background\ncat\ndog\nrim\n", {8: 1, 12: 2, 255: 3}, {"void": None}, {"cat": 1, "dog": 2, "rim": 3}),
    ],
)
def test_what_values_mean(
    names: str, values: dict[int, int], options: dict[str, Any], categories: dict[str, int], tmp_path: Path
) -> None:
    """Lines in order or numbered, no background, shifted values as COCO-Stuff has, another void or none."""
    table = np.arange(256)
    for old, new in values.items():
        table[old] = new
    root = folder(tmp_path / "data", masks__a_png=label_map_png(table[CLASSES]))
    (root / "names.txt").write_text(names)
    masks, data, _ = imported(root, tmp_path, **options)
    assert dict(zip(data.classes, data.category_ids, strict=True)) == categories
    shown = {data.classes[label]: mask for label, mask in zip(masks.classes, masks.objects, strict=True)}
    expected = {"cat": CLASSES == 8, "dog": CLASSES == 12, "sky": CLASSES == 0, "rim": CLASSES == 255}
    assert shown.keys() == categories.keys()
    for label, mask in shown.items():
        np.testing.assert_array_equal(mask, expected[label], err_msg=label)
    np.testing.assert_array_equal(masks.void, (CLASSES == 255) & ("rim" not in categories))


WRONG: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"names.txt": "cat\ndog\n"}, {}, "names.txt: value 0 is 'cat', but 0 is the background"),
    ({"names.txt": "void\ncat\ndog\n"}, {}, "value 0 is 'void', but 0 is the background; .* --void 0"),
    ({"names.txt": "0: background\ncat\n"}, {}, "names.txt: 'cat' is no line 'VALUE: NAME'"),
    ({"names.txt": "0: background\n8: cat\n8: dog\n"}, {}, "'8: dog': has a value or name that another line has"),
    ({"names.txt": "background\ncat\n"}, {}, r"masks/a.png: has the value 8, 12, which no class has"),
    # most of object 1 is a cat
    (
        {
            "masks/a.png": label_map_png(np.where(np.eye(3, 4, 3, dtype=bool), 77, CLASSES)),
            "objects/a.png": OBJECTS_PNG,
        },
        {},
        r"masks/a.png: has the value 77, which no class has",
    ),
    (
        {"masks/a.png": png(np.full((3, 4, 3), 7, np.uint8))},
        {},
        r"the colour \(7, 7, 7\), which VOC's colormap has not",
    ),
    ({"masks/a.png": png(np.zeros((3, 4, 4), np.uint8))}, {}, "is transparent in parts"),
    ({"masks/a.png": png(np.zeros((3, 4), np.uint16))}, {}, "has 16 bits per sample"),
    ({"masks/a.png": None}, {}, r"a.jpg: has no masks/a.png; add it or remove the image"),
    ({"objects/b.png": label_map_png(OBJECTS)}, {}, r"a.jpg: has no objects/a.png; add it or remove the image"),
    ({"images/a.jpg": jpeg(8, 6)}, {}, "is 4 x 3 but its image a.jpg is 8 x 6"),
    ({}, {"classes": ("cat", "cow")}, "classes: cow not in names.txt"),
]


@pytest.mark.parametrize(("files", "options", "match"), WRONG)
def test_folders_that_are_wrong(files: dict[str, Any], options: dict[str, Any], match: str, tmp_path: Path) -> None:
    root = folder(tmp_path / "data")
    for name in [name for name, data in files.items() if data is None]:
        (root / name).unlink()
    put(root, {name: data for name, data in files.items() if data is not None})
    with pytest.raises(DatasetError, match=match):
        imported(root, tmp_path, **options)


def test_jpeg_masks_and_other_sizes_are_told_together(tmp_path: Path) -> None:
    root = folder(tmp_path / "data")
    put(root, {f"images/{name}.jpg": jpeg(4, 3) for name in "bcd"})
    put(root, {"masks/b.jpg": jpeg(4, 3), "masks/c.png": label_map_png(np.zeros((2, 2), np.uint8))})
    with pytest.raises(DatasetError) as caught:
        imported(root, tmp_path)
    lines = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 3
    for part in ("b.jpg: is a JPEG picture", "c.png: is 2 x 2 but its image", "d.jpg: has no masks/d.png"):
        assert part in lines
    _, data, _ = imported(root, tmp_path, on_error="skip")
    assert [image.name for image in data.images] == ["a"]


SBD = np.array([[0, 0, 1, 1], [0, 3, 0, 1], [2, 0, 0, 1]], np.uint8)


def sbd(root: Path, version: str = "5") -> Path:
    """Four images, of which c and d are VOC's val; VOC has masks of its own of c, in which the cat is a dog."""
    mats = {f"sbd/inst/{name}.mat": sbd_mat(SBD, [8, 8, 12], version=version) for name in "abcd"}
    images = {f"sbd/img/{name}.jpg": jpeg(4, 3, seed=seed) for seed, name in enumerate("abcd")}
    own = np.where(CLASSES == 8, 12, CLASSES)
    voc = {"SegmentationClass/c.png": label_map_png(own), "SegmentationObject/c.png": label_map_png(OBJECTS)}
    voc |= {"ImageSets/Segmentation/train.txt": b"a\nz\n", "ImageSets/Segmentation/val.txt": b"c\nd\n"}
    voc |= {"Annotations/c.xml": b"<annotation/>", "JPEGImages/c.jpg": jpeg(4, 3)}
    put(root, {f"VOC2012/{name}": data for name, data in voc.items()})
    return put(root, {**mats, **images, "sbd/train.txt": "a\nc\n", "sbd/val.txt": "b\nd\n"})


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_sbd(version: str, tmp_path: Path) -> None:
    root = sbd(tmp_path / "data", version) / "sbd"
    masks, data, notes = imported(root, tmp_path, "sbd")
    np.testing.assert_array_equal(masks.objects, [SBD == 1, SBD == 2, SBD == 3])
    assert [data.classes[label] for label in masks.classes] == ["cat", "cat", "dog"]
    assert not masks.void.any() and masks.rows.tolist() == [0, 1, 2]
    assert {image.name: image.splits for image in data.images} == {n: (s,) for n, s in zip("abcd", SPLITS, strict=True)}
    assert any("give VOC by --voc to leave these out" in note for note in notes)


SPLITS = ("train", "val", "train", "val")


def test_sbd_beside_voc(tmp_path: Path) -> None:
    """VOC's val images leave the training list, VOC's own masks win, and its lists are splits."""
    root = sbd(tmp_path / "data")
    _, data, notes = imported(root / "sbd", tmp_path, "sbd", voc=str(root / "VOC2012"))
    expected = {"a": ("train", "voc_train"), "b": ("val",), "c": ("voc_val",), "d": ("val", "voc_val")}
    assert {image.name: image.splits for image in data.images} == expected
    assert "train.txt: 1 of its 2 images are in VOC's val and left out of it" in notes
    assert "1 of the 2 images of VOC's train are not in SBD" in notes
    source = ImageSource.registered(tmp_path / "artifacts/datasets/one")
    shown = {}
    for image in data.images:
        masks = read_masks(source, image, data.category_ids)
        shown[image.name] = (masks.class_map() == 255).any(), [data.classes[label] for label in masks.classes]
    assert shown["c"] == (True, ["dog", "dog", "dog"]) and shown["d"] == (False, ["cat", "cat", "dog"])


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "inst/a.mat: the file is empty"),
        (b"MATLAB", "is no MATLAB file of version 5 or 7.3; save it in MATLAB with -v7"),
        (sbd_mat(SBD, [8, 8, 12])[:-30], "is cut short or damaged"),
        (sbd_mat(SBD, [8, 8, 12], version="7.3")[:900], "is cut short or damaged"),
        (sbd_mat(SBD, [8]), r"numbers from 0 to 3, but Categories has 1"),
        (sbd_mat(SBD, [8, 8, 33]), r"inst/a.mat: has the value 33, which no class has"),
        (sbd_mat(SBD[None], [8, 8, 12]), r"shape \[1, 3, 4\], not \[height, width\]"),
    ],
)
def test_sbd_files_that_are_wrong(data: bytes, match: str, tmp_path: Path) -> None:
    root = put(sbd(tmp_path / "data"), {"sbd/inst/a.mat": data})
    with pytest.raises(DatasetError, match=match) as caught:
        imported(root / "sbd", tmp_path, "sbd")
    assert len(caught.value.problems) == 1


def test_a_digest_is_of_all_that_masks_depend_on(tmp_path: Path) -> None:
    """Another file, class, void value or order of boxes is another digest; another box is not."""
    _, data, _ = imported(folder(tmp_path / "data"), tmp_path)
    record = data.images[0]
    assert record.masks is not None
    changed = [
        replace(record, masks=replace(record.masks, class_sha256="0" * 64)),
        replace(record, masks=replace(record.masks, void=7)),
        replace(record, masks=replace(record.masks, shift=1)),
        replace(record, details=tuple(reversed(record.details))),
        replace(record, width=5),
    ]
    ids = data.category_ids
    digests = [masks_digest(one, ids) for one in (record, *changed)] + [masks_digest(record, ids[:1])]
    assert len(set(digests)) == len(digests)
    assert masks_digest(replace(record, boxes=record.boxes + 1), ids) == digests[0]
    with pytest.raises(DatasetError, match=r"a\.jpg: has no masks; import its dataset with masks"):
        masks_digest(replace(record, masks=None), ids)


def test_classes_that_are_left_out_are_background(tmp_path: Path) -> None:
    """What ``manifest.classes`` leaves out is background; what it keeps has its row among the rows that are left."""
    root = folder(tmp_path / "data", objects__a_png=label_map_png(OBJECTS))
    _, data, _ = imported(root, tmp_path)
    both = replace(data.images[0], splits=("train", "test"))
    one, other = (
        replace(both, id=i, file_name=f"{i}.jpg", split=s, splits=(s,)) for i, s in ((1, "train"), (2, "test"))
    )
    chosen = select(replace(data, images=(one, other)), "train", "test", ["dog"])
    masks = read_masks(
        ImageSource.registered(tmp_path / "artifacts/datasets/one"), chosen.images[0], chosen.category_ids
    )
    np.testing.assert_array_equal(masks.objects, [OBJECTS == 3])
    assert (masks.rows.tolist(), masks.classes.tolist()) == ([0], [0])
    np.testing.assert_array_equal(masks.void, CLASSES == 255)
