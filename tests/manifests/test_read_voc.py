"""VOC's forms, its box convention, and every way a VOC folder can be wrong."""

import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from manifests import DatasetError, ReadOptions, read_voc
from manifests.readers.voc_layout import find_voc_folder
from manifests.readers.voc_xml import from_voc_corners

XML = "<annotation><size><width>40</width><height>30</height></size>{}</annotation>"
BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"


def one(name: str = "cat", box: Iterable[object] = (1, 1, 10, 10), extra: str = "") -> str:
    return f"<object><name>{name}</name>{extra}{BOX.format(*box)}</object>"


def test_a_plain_folder(make_voc: Callable[..., Path]) -> None:
    dataset, root, notes = read_voc(make_voc())
    assert dataset.classes == ("cat", "dog")
    assert [(i.id, i.name, i.split, i.width, i.height) for i in dataset.images] == [
        (1, "a", "train", 40, 30),
        (2, "b", "test", 40, 30),
    ]
    assert dataset.images[0].boxes.tolist() == [[0, 0, 10, 10], [10, 4, 40, 30]]
    assert dataset.images[0].labels.tolist() == [0, 1]
    assert (root / dataset.images[0].file_name).is_file()
    assert notes == []


@pytest.mark.parametrize("given_path", ["VOC2007", ".", ".."])
def test_a_devkit_or_its_parent(make_voc: Callable[..., Path], given_path: str) -> None:
    folder = make_voc(folder="VOCdevkit/VOC2007")
    path = {"VOC2007": folder, ".": folder.parent, "..": folder.parent.parent}[given_path]
    assert read_voc(path)[0].name == "VOC2007"


def test_several_devkits_are_not_guessed_among(make_voc: Callable[..., Path]) -> None:
    devkit = make_voc(folder="VOCdevkit/VOC2007").parent
    make_voc(folder="VOCdevkit/VOC2012")
    with pytest.raises(DatasetError, match=r"several VOC datasets; give the path of one: .*VOC2007, .*VOC2012"):
        find_voc_folder(devkit)
    with pytest.raises(DatasetError, match="no Annotations/ and JPEGImages/"):
        find_voc_folder(devkit / "VOC2007" / "Annotations")


def test_forms_of_2007_2010_and_2012(make_voc: Callable[..., Path]) -> None:
    part = f"<part><name>head</name>{BOX.format(2, 2, 4, 4)}</part><actions><jumping>1</jumping></actions>"
    xml = {
        "y2007": XML.format(
            one(extra="<pose>Left</pose><truncated>1</truncated><difficult>0</difficult>")
            + one(extra="<pose>Unspecified</pose><truncated>0</truncated><difficult>1</difficult>")
        ),
        "y2010": XML.format(one(extra="<occluded>1</occluded><pose></pose>" + part)),
        "y2012": XML.format(f"<segmented>0</segmented>{one(box=(1.5, 2.25, 10.75, 20.5))}"),
    }
    dataset, _, _ = read_voc(make_voc(xml, splits={"train": "y2007\ny2010\ny2012\n"}))
    y2007, y2010, y2012 = dataset.images
    assert y2007.truncated.tolist() == [True, False]
    assert y2007.difficult.tolist() == [False, True]
    assert y2007.details == ({"pose": "Left"}, {"pose": "Unspecified"})
    assert y2010.details == ({"occluded": 1},)
    assert dataset.classes == ("cat",)
    assert y2012.boxes.tolist() == [[0.5, 1.25, 10.75, 20.5]]


def test_images_of_any_extension(make_voc: Callable[..., Path]) -> None:
    root = make_voc(images={})
    Image.new("RGB", (40, 30)).save(root / "JPEGImages" / "a.PNG")
    Image.new("L", (40, 30)).save(root / "JPEGImages" / "b.bmp")
    assert [i.file_name for i in read_voc(root)[0].images] == ["a.PNG", "b.bmp"]


def test_splits(make_voc: Callable[..., Path]) -> None:
    xml = {i: XML.format(one()) for i in "abcd"}
    splits = {
        "train": "a\n",
        "val": "b\n\n",
        "trainval": "a\nb\n",
        "test": "c \n",
        "cat_train": "a  1\n",
        "cat_trainval": "a  1\nb -1\n",
        "dog_val": "",
        "empty": "",
    }
    dataset, _, notes = read_voc(make_voc(xml, splits=splits))
    assert dataset.splits == ("test", "train", "trainval", "val")
    assert [(i.name, i.split, i.splits) for i in dataset.images] == [
        ("a", "train", ("train", "trainval")),
        ("b", "val", ("trainval", "val")),
        ("c", "test", ("test",)),
    ]
    assert [i.name for i in dataset.split("trainval")] == ["a", "b"]
    assert "1 annotated images are in no split of ImageSets/Main and are left out" in notes
    assert "ImageSets/Main/empty.txt: lists no image, so there is no split 'empty'" in notes
    assert notes[-1] == "pictures: 4 seen, 3 taken, 1 left out"
    assert len(notes) == 3


def test_an_image_in_test_and_train_is_noted(make_voc: Callable[..., Path]) -> None:
    _, _, notes = read_voc(make_voc(splits={"train": "a\nb\n", "test": "b\n"}))
    assert notes == ["b.jpg: is in split test and also in train"]


def test_a_split_by_seed_moves_no_other_image(make_voc: Callable[..., Path]) -> None:
    xml = {f"i{n}": XML.format(one()) for n in range(40)}
    options = ReadOptions(fractions={"train": 0.5, "val": 0.25, "test": 0.25}, seed=3)
    few, _, notes = read_voc(make_voc(dict(list(xml.items())[:30]), splits={}, folder="few"), options)
    many, _, _ = read_voc(make_voc(xml, splits={}, folder="many"), options)
    assert any(note.startswith("the source has no splits: drawn by seed 3") for note in notes)
    assert {i.name: i.split for i in few.images}.items() <= {i.name: i.split for i in many.images}.items()
    assert {i.split for i in many.images} == {"train", "val", "test"}
    other, _, _ = read_voc(make_voc(xml, splits={}, folder="other"), ReadOptions(fractions=options.fractions, seed=4))
    assert [i.split for i in other.images] != [i.split for i in many.images]


corner = st.integers(1, 500)


@given(corner, corner, st.integers(2, 500), st.integers(2, 500))
@settings(deadline=None)
def test_box_convention(xmin: int, ymin: int, width: int, height: int) -> None:
    """A 1-based inclusive box covers the same pixels as the slice that we make of it."""
    xmax, ymax = xmin + width - 1, ymin + height - 1
    x1, y1, x2, y2 = from_voc_corners(xmin, ymin, xmax, ymax)
    theirs = [range(xmin, xmax + 1)[0] - 1, len(range(xmin, xmax + 1)), range(ymin, ymax + 1)[0] - 1]
    assert [x1, x2 - x1, y1] == theirs
    assert (x1 + 1, y1 + 1, x2, y2) == (xmin, ymin, xmax, ymax)
    assert (x2 - x1) * (y2 - y1) == width * height


def test_class_list_gives_order_and_refuses_others(make_voc: Callable[..., Path]) -> None:
    dataset, _, _ = read_voc(make_voc(), ReadOptions(classes=("dog", "cat", "cow")))
    assert dataset.classes == ("dog", "cat", "cow")
    assert dataset.images[0].labels.tolist() == [1, 0]
    with pytest.raises(
        DatasetError, match=r"Annotations/b.xml: object 2: class 'dog' is unknown; add it .*cat"
    ) as caught:
        read_voc(make_voc(folder="again"), ReadOptions(classes=("cat",)))
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("box", "kept"),
    [((0, 0, 10, 10), [0, 0, 10, 10]), ((-1, 1, 10, 10), [0, 0, 10, 10]), ((31, 21, 42, 32), [30, 20, 40, 30])],
)
def test_a_small_overhang_is_clipped_with_a_note(
    make_voc: Callable[..., Path], box: tuple[int, ...], kept: list[int]
) -> None:
    dataset, _, notes = read_voc(make_voc({"a": XML.format(one(box=box))}, splits={"train": "a"}))
    assert dataset.images[0].boxes.tolist() == [kept]
    assert notes == ["1 boxes stuck out of their image by rounding and were clipped to it"]


ENTITIES = """<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">{}]><annotation>&z;</annotation>""".format(
    "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">'
        for a, b in zip("abcdefghijklmnopqrstuvwxy", "bcdefghijklmnopqrstuvwxyz", strict=True)
    )
)
BAD_XML = {
    "inverted": (
        XML.format(one(box=(10, 1, 5, 10))),
        "object 1: box xmin 10 ymin 1 xmax 5 ymax 10 is empty or inverted",
    ),
    "empty": (XML.format(one() + one(box=(4, 4, 4, 9))), "object 2: box .* is empty or inverted"),
    "outside": (XML.format(one(box=(1, 1, 43, 10))), "leaves the 40 x 30 image by 3 px"),
    "beyond": (XML.format(one(box=(41, 1, 42, 10))), "leaves the 40 x 30 image by 2 px"),
    "nan": (XML.format(one(box=(1, 1, "nan", 10))), "is not finite"),
    "inf": (XML.format(one(box=(1, 1, "inf", 10))), "is not finite"),
    "text": (XML.format(one(box=(1, 1, "ten", 10))), "xmax is 'ten', not a number"),
    "no box": (XML.format("<object><name>cat</name></object>"), "it has no bndbox"),
    "no name": (XML.format(one(name=" ")), "it has no class name"),
    "flag": (XML.format(one(extra="<difficult>2</difficult>")), "difficult is '2', not 0 or 1"),
    "malformed": ("<annotation><object>", "is not well-formed XML"),
    "not xml": (b"\x00\xff\xfe", "is not well-formed XML"),
    "encoding": ('<?xml version="1.0" encoding="klingon"?><a/>', "is not well-formed XML"),
    "entity bomb": (ENTITIES, "declares entities"),
    "external entity": (
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>',
        "declares entities",
    ),
    "huge": (b"<a>" + b" " * 2**24 + b"</a>", "far too many for an annotation"),
    "size": (XML.replace("40", "30").format(one()), "says 30 x 30 but the image a.jpg is 40 x 30"),
    "size text": (XML.replace("40", "wide").format(one()), "size 'wide' x '30' is not two numbers"),
}


@pytest.mark.parametrize("case", BAD_XML)
def test_bad_annotation(make_voc: Callable[..., Path], case: str) -> None:
    text, match = BAD_XML[case]
    root = make_voc({"a": text, "b": XML.format(one())})
    with pytest.raises(DatasetError, match=match) as caught:
        read_voc(root)
    (problem,) = caught.value.problems
    assert problem.startswith("Annotations/a.xml: ")
    assert "; " in problem
    dataset, _, notes = read_voc(root, ReadOptions(on_error="skip"))
    assert f"left out: {problem}" in notes
    assert dataset.image("b").boxes.tolist() == [[0, 0, 10, 10]]


def test_an_entity_bomb_costs_nothing(make_voc: Callable[..., Path]) -> None:
    root = make_voc({"a": ENTITIES})
    tracemalloc.start()
    with pytest.raises(DatasetError):
        read_voc(root, ReadOptions(classes=("cat",)))
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_a_size_of_0_is_no_statement(make_voc: Callable[..., Path]) -> None:
    assert (
        len(read_voc(make_voc({"a": XML.replace("40", "0").replace("30", "0").format(one())}, splits={}))[0].images)
        == 1
    )


def test_all_problems_in_one_report(make_voc: Callable[..., Path]) -> None:
    xml = {
        "a": XML.format(one(box=(9, 9, 1, 1))),
        "b": XML.format(one()),
        "c": XML.format(one()),
        "e": XML.format(one()),
    }
    root = make_voc(xml, splits={"train": "a\nb\nc\nd\n../../etc/passwd\n", "test": "e\ne\nx y\n"})
    images = root / "JPEGImages"
    (images / "b.jpg").write_bytes((images / "b.jpg").read_bytes()[:-40])
    (images / "c.jpg").unlink()
    (images / "e.png").write_bytes((images / "e.jpg").read_bytes())
    (images / "d.jpg").write_bytes(b"hello")
    with pytest.raises(DatasetError) as caught:
        read_voc(root)
    starts = [line.split(";")[0][:60] for line in caught.value.problems]
    assert starts == sorted(starts)
    for part in (
        "../../etc/passwd: no image or annotation has this id (listed in ImageSets/Main/train.txt)",
        "Annotations/a.xml: object 1: box xmin 9",
        "b.jpg: the image is truncated",
        "Annotations/c.xml: there is no image c.*",
        "Annotations/d.xml: there is no such file (listed in ImageSets/Main/train.txt)",
        "JPEGImages/e.png: has the same image id as e.jpg",
        "ImageSets/Main/test.txt line 2: image id 'e' is listed twice",
        "ImageSets/Main/test.txt line 3: 'x y' is not one image id",
    ):
        assert sum(line.startswith(part) for line in caught.value.problems) == 1, part
    assert len(caught.value.problems) == 8


def test_skip_leaves_out_bad_images_and_fails_when_none_is_left(make_voc: Callable[..., Path]) -> None:
    root = make_voc()
    (root / "JPEGImages" / "a.jpg").write_bytes(b"hello")
    dataset, _, notes = read_voc(root, ReadOptions(on_error="skip"))
    assert [i.name for i in dataset.images] == ["b"]
    assert notes[0].startswith("left out: a.jpg: is not an image")
    (root / "JPEGImages" / "b.jpg").write_bytes(b"")
    with pytest.raises(DatasetError, match="no usable image is left") as caught:
        read_voc(root, ReadOptions(on_error="skip"))
    assert len(caught.value.problems) == 3


def test_a_bad_image_does_not_hide_what_is_wrong_with_its_boxes(make_voc: Callable[..., Path]) -> None:
    root = make_voc({"a": XML.format(one(box=(5, 5, 2, 9))), "b": XML.format(one())})
    (root / "JPEGImages" / "a.jpg").write_bytes(b"hello")
    with pytest.raises(DatasetError) as caught:
        read_voc(root)
    assert len(caught.value.problems) == 2
    assert "empty or inverted" in caught.value.problems[0]
    assert "is not an image" in caught.value.problems[1]


def test_skip_leaves_out_an_image_of_which_no_box_is_left(make_voc: Callable[..., Path]) -> None:
    good = one()
    root = make_voc(
        {
            "a": XML.format(one(box=(5, 5, 2, 9))),
            "b": XML.format(good + one(box=(5, 5, 2, 9))),
            "c": XML.format(""),
        },
        splits={},
    )
    dataset, _, notes = read_voc(root, ReadOptions(on_error="skip", fractions={"train": 1.0}))
    assert [(i.name, len(i.boxes)) for i in dataset.images] == [("b", 1), ("c", 0)]
    assert any(note.endswith("the whole image a.jpg: its only object cannot be used") for note in notes)
    assert "kept: Annotations/b.xml: the image b.jpg with 1 of its 2 objects" in notes
    assert any(note.endswith("from the file names: train 2 images") for note in notes)


def test_an_unlisted_class_is_summed_up_after_three(make_voc: Callable[..., Path]) -> None:
    unlisted = one() + one(name="owl")
    root = make_voc({name: XML.format(unlisted) for name in "abcdef"}, splits={})
    with pytest.raises(DatasetError) as caught:
        read_voc(root, ReadOptions(classes=("cat",)))
    assert len(caught.value.problems) == 3
    assert caught.value.problems[2].startswith("Annotations/c.xml: object 2: class 'owl' is unknown; ")
    assert caught.value.problems[2].endswith(" (and 3 more like this)")


@pytest.mark.parametrize(
    ("seed", "drawn"),
    [(0, "split test got 0 of 10 images, a share of 0 where 0.2 was asked for: "), (3, None)],
)
def test_a_drawn_split_far_from_what_was_asked_is_noted(
    make_voc: Callable[..., Path], seed: int, drawn: str | None
) -> None:
    root = make_voc({f"{i}": XML.format(one()) for i in range(10)}, splits={})
    notes = [note for note in read_voc(root, ReadOptions(seed=seed))[2] if "asked" in note]
    assert len(notes) == bool(drawn)
    assert all(note.startswith(drawn or "") and "--seed or --test-fraction" in note for note in notes)


@pytest.mark.parametrize("objects", ["<object><name>cat</name></object>", one(name=" "), one(box=(1, 1, "ten", 10))])
def test_skip_leaves_out_an_image_of_which_no_object_can_be_read(make_voc: Callable[..., Path], objects: str) -> None:
    xml = {"a": XML.format(objects), "b": XML.format(objects + one()), "c": XML.format(""), "d": "<annotation>"}
    dataset, _, notes = read_voc(make_voc(xml, splits={}), ReadOptions(on_error="skip"))
    assert [(i.name, len(i.boxes)) for i in dataset.images] == [("b", 1), ("c", 0)]
    assert "left out: Annotations/a.xml: the whole image a.jpg: its only object cannot be used" in notes
    assert "kept: Annotations/b.xml: the image b.jpg with 1 of its 2 objects" in notes
    assert "left out: Annotations/d.xml: the whole image d.jpg: its annotation cannot be read" in notes


def test_an_empty_dataset(make_voc: Callable[..., Path]) -> None:
    with pytest.raises(DatasetError, match="the dataset has no images"):
        read_voc(make_voc({}, splits={}))


def test_links_out_of_the_folder_are_refused(make_voc: Callable[..., Path], tmp_path: Path) -> None:
    root = make_voc()
    outside = tmp_path / "outside.jpg"
    (root / "JPEGImages" / "a.jpg").rename(outside)
    (root / "JPEGImages" / "a.jpg").symlink_to(outside)
    (root / "JPEGImages" / "b.jpg").unlink()
    (root / "JPEGImages" / "b.jpg").symlink_to("b.jpg")
    with pytest.raises(DatasetError) as caught:
        read_voc(root)
    text = str(caught.value)
    assert "a.jpg: is a link that leaves" in text
    assert "b.jpg: " in text


def test_folders_that_are_links_are_fine(make_voc: Callable[..., Path], tmp_path: Path) -> None:
    root = make_voc()
    for name in ("JPEGImages", "Annotations"):
        (root / name).rename(tmp_path / name)
        (root / name).symlink_to(tmp_path / name)
    assert len(read_voc(root)[0].images) == 2


def test_annotations_that_link_out_of_their_folder_are_refused(make_voc: Callable[..., Path], tmp_path: Path) -> None:
    root = make_voc()
    (root / "Annotations" / "a.xml").rename(tmp_path / "secret.xml")
    (root / "Annotations" / "a.xml").symlink_to(tmp_path / "secret.xml")
    with pytest.raises(DatasetError, match=r"a\.xml: is a link that leaves"):
        read_voc(root)


def test_a_link_of_the_whole_folder_is_fine(make_voc: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(make_voc())
    assert len(read_voc(tmp_path / "link")[0].images) == 2


def test_an_unreadable_image(make_voc: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse to read by a patch rather than file modes, as root may read everything."""
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "a.jpg":
            raise PermissionError(13, "Permission denied")
        return read(path)

    root = make_voc()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DatasetError, match=r"a\.jpg: cannot be read \(Permission denied\)"):
        read_voc(root)


def test_a_folder_in_an_images_place(make_voc: Callable[..., Path]) -> None:
    root = make_voc()
    (root / "JPEGImages" / "a.jpg").unlink()
    (root / "JPEGImages" / "a.jpg").mkdir()
    with pytest.raises(DatasetError, match=r"Annotations/a.xml: there is no image a\.\*"):
        read_voc(root)


def test_split_files_that_are_no_text(make_voc: Callable[..., Path]) -> None:
    root = make_voc()
    (root / "ImageSets" / "Main" / "train.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(DatasetError, match=r"ImageSets/Main/train\.txt: is not UTF-8"):
        read_voc(root)


def test_the_same_picture_in_two_splits_is_noted(make_voc: Callable[..., Path]) -> None:
    root = make_voc()
    (root / "JPEGImages" / "b.jpg").write_bytes((root / "JPEGImages" / "a.jpg").read_bytes())
    assert read_voc(root)[2] == ["b.jpg: is the same picture as a.jpg, across the splits train and test"]


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("stated", ["stored", "upright"])
def test_boxes_of_exif_turned_images(make_voc: Callable[..., Path], orientation: int, stated: str) -> None:
    """One bright rectangle: wherever EXIF puts it, the box must be around it.

    Orientations that swap width and height tell by the stated size which frame the box is in; others are upright.
    """
    transposed = orientation >= 5
    pixels = np.zeros((24, 40), np.uint8)
    pixels[4:10, 5:21] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    root = make_voc({}, splits={})
    Image.fromarray(pixels).save(root / "JPEGImages" / "a.png", exif=exif)
    upright = {
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.T,
        6: np.rot90(pixels, -1),
        7: np.rot90(pixels, 2).T,
        8: np.rot90(pixels),
    }[orientation]
    frame = pixels if stated == "stored" and transposed else upright
    ys, xs = np.nonzero(frame)
    box = BOX.format(xs.min() + 1, ys.min() + 1, xs.max() + 1, ys.max() + 1)
    size = f"<size><width>{frame.shape[1]}</width><height>{frame.shape[0]}</height></size>"
    xml = f"<annotation>{size}<object><name>cat</name>{box}</object></annotation>"
    (root / "Annotations" / "a.xml").write_text(xml)
    image = read_voc(root)[0].images[0]
    assert (image.height, image.width) == upright.shape
    x1, y1, x2, y2 = image.boxes[0].astype(int)
    assert upright[y1:y2, x1:x2].all()
    assert upright.sum() == 255 * (x2 - x1) * (y2 - y1)
    notes = read_voc(root)[2]
    expected = "annotated before their EXIF turn" if frame is pixels else "are turned by EXIF"
    assert sum(expected in note for note in notes) == 1


def test_a_plain_doctype_is_harmless(make_voc: Callable[..., Path]) -> None:
    root = make_voc({"a": "<!DOCTYPE annotation>" + XML.format(one())}, splits={})
    assert len(read_voc(root)[0].images) == 1
