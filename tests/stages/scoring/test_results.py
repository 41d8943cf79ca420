"""Result files of other programs: what evaluate writes reads back as it was, and what is wrong is told in lines."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests import Dataset, DatasetError, ImageRecord
from stages.scoring.files import coco_results, comp4_lines, comp4_names, voc_image_ids
from stages.scoring.objects import FlatDetections
from stages.scoring.results import read_coco_results, read_voc_results

CLASSES = ("cat", "big dog/1")


def image(number: int, split: str = "test", name: str = "") -> ImageRecord:
    return ImageRecord(
        id=number,
        file_name=name or f"a{number}.jpg",
        width=100,
        height=50,
        sha256=f"{number:064x}",
        split=split,
        boxes=np.zeros((0, 4), np.float32),
        labels=np.zeros(0, np.int64),
    )


DATASET = Dataset("d", CLASSES, (image(3, "train"), image(7), image(9, name="b c.jpg"), image(11)), (10, 40))
TEST = DATASET.split("test")
OK = {"image_id": 7, "category_id": 40, "bbox": [1, 2, 10, 20], "score": 0.5}


def coco(path: Path, entries: Any) -> Path:
    path.write_text(json.dumps(entries))
    return path


corner = st.floats(0, 40, width=32)
extent = st.floats(0.5, 9, width=32)
rows = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 1), corner, corner, extent, extent, st.floats(-1e6, 1e6, width=32)),
    max_size=30,
)


@settings(deadline=None)
@given(rows)
def test_what_is_written_reads_back(tmp_path_factory: pytest.TempPathFactory, found: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("results")
    per_image = []
    for number in range(3):
        # stored detections are by class and best first
        own = sorted((row for row in found if row[0] == number), key=lambda row: (row[1], -row[6]))
        boxes = np.array([[x, y, x + w, y + h] for _, _, x, y, w, h, _ in own], np.float32).reshape(-1, 4)
        labels = np.array([row[1] for row in own], np.int64)
        per_image.append((boxes, np.array([row[6] for row in own], np.float32), labels))
    wanted = FlatDetections.of(per_image)
    coco(folder / "r.json", coco_results(wanted, [r.id for r in TEST], DATASET.category_ids))
    for label, name in enumerate(comp4_names(CLASSES)):
        text = comp4_lines(wanted, label, voc_image_ids([r.file_name for r in TEST]))
        (folder / name).write_text(text)
    for read in (
        read_coco_results(folder / "r.json", DATASET, "test"),
        read_voc_results(folder, DATASET, "test"),
    ):
        np.testing.assert_array_equal(read.detections.image, wanted.image)
        np.testing.assert_array_equal(read.detections.labels, wanted.labels)
        np.testing.assert_array_equal(read.detections.scores, wanted.scores)
        np.testing.assert_allclose(read.detections.boxes, wanted.boxes, rtol=2e-7, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_id": 8}, "image 8 is none of the 3 test images, such as 7 (a7)"),
        ({"image_id": "7"}, "image '7' is none of the 3 test images, such as 7 (a7); write its number, not a text"),
        ({"image_id": "a3"}, "image 'a3' is none of the 3 test images"),
        ({"image_id": 10**400}, "image 1000000000"),
        ({"image_id": [7]}, "image [7] is none"),
        ({"image_id": True}, "image True is none"),
        ({"image_id": 3}, "image 3 is in split train; give results of the 3 images of split test alone"),
        ({"category_id": 1}, "category_id 1 is none of the dataset's: 10 (cat), 40 (big dog/1)"),
        ({"score": float("nan")}, "score nan is no finite number"),
        ({"score": 1e300}, "score 1e+300 is no finite number"),
        ({"category_id": "10"}, "category_id '10' is none of the dataset's: 10 (cat), 40 (big dog/1); write a number"),
        ({"score": "0.5"}, "score '0.5' is no number; write one, not a text"),
        ({"score": 10**400}, "score inf is no finite number"),
        ({"score": -(10**400)}, "score -inf is no finite number"),
        ({"bbox": [1, 2, 10**400, 3]}, "box 1 2 inf 5 has no extent"),
        ({"bbox": [-(10**400), 2, 10**400, 3]}, "has no extent"),
        ({"bbox": ["x" * 5000]}, "... is not [x, y, width, height] in px"),
        ({"score": True}, "score True is no number"),
        ({"bbox": [1, 2, 3]}, "bbox [1, 2, 3] is not [x, y, width, height] in px"),
        ({"bbox": [1, 2, 0, 3]}, "box 1 2 1 5 has no extent"),
        ({"bbox": [1, 2, -4, 3]}, "has no extent"),
        ({"bbox": [1, 2, float("nan"), 3]}, "has no extent"),
        ({"bbox": [95, 2, 10, 3]}, "box 95 2 105 5 leaves the 100 x 50 image a7 by 5 px; correct it, or --clip"),
        ({"bbox": [100.5, 2, 1, 3]}, "is empty inside its image"),
        ({"bbox": None}, "bbox None is not"),
    ],
)
def test_what_is_wrong_is_one_line_naming_the_result(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = coco(tmp_path / "r.json", [OK, OK | change])
    with pytest.raises(DatasetError) as caught:
        read_coco_results(path, DATASET, "test")
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(f"{path}: result 2: ") and said in caught.value.problems[0]


def test_one_cause_in_many_places_is_shown_three_times_and_counted(tmp_path: Path) -> None:
    path = coco(tmp_path / "r.json", [OK | {"image_id": 8}] * 50 + [{}] + [OK | {"score": None}])
    with pytest.raises(DatasetError) as caught:
        read_coco_results(path, DATASET, "test")
    assert len(caught.value.problems) == 5
    assert sum("(and 47 more like this)" in line for line in caught.value.problems) == 1


@pytest.mark.parametrize("text", ["", "{}", '{"annotations": []}', "[1]", "[[]]", "[" * 100_000, "\xff"])
def test_other_forms_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DatasetError) as caught:
        read_coco_results(tmp_path / "r.json", DATASET, "test")
    assert len(caught.value.problems) == 1 and str(caught.value).startswith(f"{tmp_path}/r.json: ")
    for missing in (tmp_path / "no.json", tmp_path):
        with pytest.raises(DatasetError, match=r"no such file|is a folder"):
            read_coco_results(missing, DATASET, "test")


def test_boxes_a_little_outside_are_cut_off_and_others_by_clip(tmp_path: Path) -> None:
    path = coco(tmp_path / "r.json", [OK | {"bbox": [-1.5, 2, 103, 20]}, OK | {"bbox": [50, 2, 80, 20]}])
    with pytest.raises(DatasetError, match=r"result 2: .* by 30 px"):
        read_coco_results(path, DATASET, "test")
    read = read_coco_results(path, DATASET, "test", clip=True)
    assert read.detections.boxes.tolist() == [[0, 2, 100, 22], [50, 2, 100, 22]]
    assert read.notes == ("2 boxes left their image and were cut off at its edge", "2 of 3 images have no detections")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a7 0.5 1 2 10", "is not `image score x1 y1 x2 y2`"),
        ("a7 x 1 2 10 20", "is not `image score x1 y1 x2 y2`: 'x', not a number"),
        ("a7 0_9 1 2 10 20", "'0_9', not a number"),
        ("a7 0.9 1 2 1_0 20", "'1_0', not a number"),
        ("a7 0,9 1 2 10 20", "'0,9', not a number; write a point for the decimal comma"),
        ("a3.jpg 0.5 1 2 10 20", "image a3.jpg is in split train"),
        ("a8.jpg 0.5 1 2 10 20", "image 'a8.jpg' is none of the 3 test images"),
        ("a8 0.5 1 2 10 20", "image 'a8' is none of the 3 test images"),
        ("a3 0.5 1 2 10 20", "image a3 is in split train"),
        ("a7 nan 1 2 10 20", "score nan is no finite number"),
        ("a7 0.5 10 2 5 20", "has no extent"),
        ("a7 0.5 1 2 200 20", "leaves the 100 x 50 image a7 by 100 px"),
    ],
)
def test_wrong_lines_of_voc(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "comp4_det_test_cat.txt").write_text(f"a7 0.5 1 2 10 20\n\n{line}\n")
    with pytest.raises(DatasetError) as caught:
        read_voc_results(tmp_path, DATASET, "test")
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(f"{tmp_path}/comp4_det_test_cat.txt: line 3: ")
    assert said in str(caught.value)


def test_classes_of_voc_come_from_the_names(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no file such as comp4_det_test_CLASS\.txt"):
        read_voc_results(tmp_path, DATASET, "test")
    with pytest.raises(DatasetError, match="is no folder"):
        read_voc_results(tmp_path / "no", DATASET, "test")
    (tmp_path / "comp3_det_val_cat.txt").write_text("b%20c -1.5 1 1 10 20\n")
    (tmp_path / "._comp3_det_val_cat.txt").write_bytes(b"\x00\x05\x16\x07")
    read = read_voc_results(tmp_path, DATASET, "test")
    assert (read.detections.image.tolist(), read.detections.boxes.tolist()) == ([1], [[0, 0, 10, 20]])
    assert any("no file of class 'big dog/1'" in note for note in read.notes)
    (tmp_path / "comp4_det_test_bird.txt").write_text("")
    with pytest.raises(DatasetError, match="class 'bird' is none of the dataset's: cat, big dog/1"):
        read_voc_results(tmp_path, DATASET, "test")


def test_a_table_tells_the_class_of_a_file_whose_name_does_not(tmp_path: Path) -> None:
    (tmp_path / "comp4_det_test_big~0123.txt").write_text("a7 1 1 1 10 20\n")
    (tmp_path / "comp4_classes.json").write_text(json.dumps({"comp4_det_test_big~0123.txt": CLASSES[1]}))
    assert read_voc_results(tmp_path, DATASET, "test").detections.labels.tolist() == [1]
    (tmp_path / "comp4_classes.json").write_text("{")
    with pytest.raises(DatasetError, match=r"comp4_classes\.json: is not well-formed JSON"):
        read_voc_results(tmp_path, DATASET, "test")
    for wrong in ("[1]", "3", json.dumps({"comp4_det_test_big~0123.txt": [1]})):
        (tmp_path / "comp4_classes.json").write_text(wrong)
        with pytest.raises(DatasetError, match=r"comp4_classes\.json: is no table .*; write it again, or remove it"):
            read_voc_results(tmp_path, DATASET, "test")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"annotations": [], "info": {}}, "is an object {...}, and .*; where 'annotations' is that list, save it as a"),
        ({}, r"is an object {...} without any list in it, and COCO's results are a list of {image_id, .*; give such"),
        (None, "is null, and"),
        (True, "is true or false, and"),
        (1.5, "is a number, and"),
        ("x", "is a text, and"),
    ],
)
def test_what_is_no_list_is_named_in_plain_words(tmp_path: Path, document: Any, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        read_coco_results(coco(tmp_path / "r.json", document), DATASET, "test")


def test_two_files_of_one_class_are_refused_and_named(tmp_path: Path) -> None:
    for name in ("comp3_det_test_cat", "comp4_det_test_cat", "comp4_det_test_big%20dog%2F1", "comp4_det_trainval_cat"):
        (tmp_path / f"{name}.txt").write_text("a7 1 1 1 10 20\n")
    with pytest.raises(DatasetError) as caught:
        read_voc_results(tmp_path, DATASET, "test")
    second = [line.partition(": is the second file of class 'cat', beside ") for line in caught.value.problems]
    assert [(first, rest.partition(",")[0]) for first, _, rest in second] == [
        (f"{tmp_path}/comp4_det_test_cat.txt", "comp3_det_test_cat.txt"),
        (f"{tmp_path}/comp4_det_trainval_cat.txt", "comp3_det_test_cat.txt"),
    ]


def test_a_file_of_another_split_is_refused_unless_it_is_called_test(tmp_path: Path) -> None:
    images = (image(3, "train"), image(5, "train_2"), image(7), image(9, "val"))
    dataset = Dataset("d", ("cat", "2_cat", "dog"), images)
    for name in ("train_cat", "train_2_dog", "val_2_cat"):
        (tmp_path / f"comp4_det_{name}.txt").write_text("")
    with pytest.raises(DatasetError) as caught:
        read_voc_results(tmp_path, dataset, "val")
    assert [line.partition(": is by its name of ")[::2] for line in caught.value.problems] == [
        (
            f"{tmp_path}/comp4_det_{file}.txt",
            f"split {split}, and the split searched is val; give the results of val, "
            "or call the file so where it has them",
        )
        for file, split in (("train_2_dog", "train_2"), ("train_cat", "train"))
    ]
    for name in ("train_cat", "train_2_dog"):
        (tmp_path / f"comp4_det_{name}.txt").unlink()
    (tmp_path / "comp4_det_test_dog.txt").write_text("a9 1 1 1 10 20\n")  # as evaluate calls it, whatever the split
    assert read_voc_results(tmp_path, dataset, "val").detections.labels.tolist() == [2]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_both_forms_are_read_in_the_encodings_of_windows(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "comp4_det_test_cat.txt").write_text("a7 0.5 1 1 10 20\r\nb%20c 1 1 1 9 9\r\n", encoding=encoding)
    assert read_voc_results(tmp_path, DATASET, "test").detections.image.tolist() == [0, 1]
    (tmp_path / "r.json").write_text(json.dumps([OK]), encoding=encoding)
    assert read_coco_results(tmp_path / "r.json", DATASET, "test").detections.scores.tolist() == [0.5]


def test_names_of_images_may_have_their_extension_or_another_where_one_image_alone_fits(tmp_path: Path) -> None:
    names = ["x/a.jpg", "x/b c.JPG", "x/Été.png", "x/d.e.jpg"]
    tested = [image(number, name=name) for number, name in enumerate(names, 10)]
    dataset = Dataset("d", CLASSES, (image(1, "train", "y/a.jpg"), image(2, "train", "d.jpg"), *tested))
    file = tmp_path / "comp4_det_test_cat.txt"
    for called, row in [
        ("a", 0), ("a.jpg", 0), ("a.png", 0), ("A.JPG", 0), ("b%20c.JPG", 1), ("b%20c", 1),
        ("E\u0301te\u0301.png", 2), ("d.e", 3), ("d.e.jpg", 3),
    ]:  # fmt: skip
        file.write_text(f"{called} 1 1 1 10 20\n", encoding="utf-8")
        assert read_voc_results(tmp_path, dataset, "test").detections.image.tolist() == [row], called
    for called, said in [("y/a.jpg", "in split train"), ("d.jpg", "in split train"), ("d.png", "in split train")]:
        file.write_text(f"{called} 1 1 1 10 20\n")
        with pytest.raises(DatasetError, match=said):
            read_voc_results(tmp_path, dataset, "test")


def test_a_name_that_two_images_fit_is_refused_with_both(tmp_path: Path) -> None:
    dataset = Dataset("d", CLASSES, (image(1, name="a.jpg"), image(2, name="a.png"), image(3, name="b.png")))
    file = tmp_path / "comp4_det_test_cat.txt"
    file.write_text("a 1 1 1 10 20\n")
    with pytest.raises(DatasetError, match=r"image 'a' may be a\.jpg or a\.png; write one of these"):
        read_voc_results(tmp_path, dataset, "test")
    file.write_text("a.png 1 1 1 10 20\nb 1 1 1 10 20\n")
    assert read_voc_results(tmp_path, dataset, "test").detections.image.tolist() == [1, 2]


def test_files_that_look_like_results_and_are_not_read_are_named(tmp_path: Path) -> None:
    packed, other = "comp4_det_test_cat.txt.gz", "mine_comp4_det_test_cat.txt"
    for name in (packed, other, "notes.txt", "._comp4_det_test_cat.txt"):
        (tmp_path / name).write_text("")
    said = f"; not read: {packed} (compressed; unpack it), {other} (not called comp4_det_test_CLASS.txt)"
    with pytest.raises(DatasetError) as caught:
        read_voc_results(tmp_path, DATASET, "test")
    assert str(caught.value).endswith(f"there is no file such as comp4_det_test_CLASS.txt; correct the path{said}")
    (tmp_path / comp4_names(CLASSES)[1]).write_text("")
    (note, _) = read_voc_results(tmp_path, DATASET, "test").notes
    assert note.endswith(f"no file of class 'cat': taken as no detections of it{said}")


def test_a_file_that_cannot_be_read_is_told_by_its_cause(tmp_path: Path) -> None:
    (tmp_path / "comp4_det_test_cat.txt").symlink_to("nowhere")
    (tmp_path / comp4_names(CLASSES)[1]).write_bytes(gzip.compress(b"a7 1 1 1 10 20\n"))
    with pytest.raises(DatasetError) as caught:
        read_voc_results(tmp_path, DATASET, "test")
    assert sorted(line.partition(": ")[2] for line in caught.value.problems) == [
        "is a link to a file that is not there; put that file there, or remove the link",
        "is compressed (gzip); unpack it (gunzip)",
    ]


def test_the_split_that_was_asked_for_is_the_one_that_is_named(tmp_path: Path) -> None:
    halved = replace(image(7, "va"), splits=("test", "va"))
    dataset = Dataset("d", CLASSES, (image(3, "train"), halved))
    with pytest.raises(
        DatasetError, match="image 3 is in split train; give results of the 1 image of split test alone"
    ):
        read_coco_results(coco(tmp_path / "r.json", [OK | {"image_id": 3, "category_id": 1}]), dataset, "test")
