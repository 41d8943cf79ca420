"""Result files of other programs: what evaluate writes reads back as it was, and what is wrong is told in lines."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests import Dataset, DatasetError, ImageRecord
from stages.scoring.files import coco_results, comp4_lines, comp4_name, voc_image_ids
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
    for label, name in enumerate(CLASSES):
        text = comp4_lines(wanted, label, voc_image_ids([r.file_name for r in TEST]))
        (folder / comp4_name(name)).write_text(text)
    for read in (
        read_coco_results(folder / "r.json", DATASET, TEST),
        read_voc_results(folder, DATASET, TEST),
    ):
        np.testing.assert_array_equal(read.detections.image, wanted.image)
        np.testing.assert_array_equal(read.detections.labels, wanted.labels)
        np.testing.assert_array_equal(read.detections.scores, wanted.scores)
        np.testing.assert_allclose(read.detections.boxes, wanted.boxes, rtol=2e-7, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_id": 8}, "image 8 is none of the 3 test images, such as 7 (a7)"),
        ({"image_id": "7"}, "image '7' is none of the 3 test images"),
        ({"image_id": [7]}, "image [7] is none"),
        ({"image_id": True}, "image True is none"),
        ({"image_id": 3}, "image 3 is in split train; give results of the 3 images of split test alone"),
        ({"category_id": 1}, "category_id 1 is none of the dataset's: 10 (cat), 40 (big dog/1)"),
        ({"score": float("nan")}, "score nan is no finite number"),
        ({"score": 1e300}, "score 1e+300 is no finite number"),
        ({"score": "0.5"}, "score '0.5' is no number"),
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
        read_coco_results(path, DATASET, TEST)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith("r.json: result 2: ") and said in caught.value.problems[0]


def test_one_cause_in_many_places_is_shown_three_times_and_counted(tmp_path: Path) -> None:
    path = coco(tmp_path / "r.json", [OK | {"image_id": 8}] * 50 + [{}] + [OK | {"score": None}])
    with pytest.raises(DatasetError) as caught:
        read_coco_results(path, DATASET, TEST)
    assert len(caught.value.problems) == 5
    assert sum("(and 47 more like this)" in line for line in caught.value.problems) == 1


@pytest.mark.parametrize("text", ["", "{}", '{"annotations": []}', "[1]", "[[]]", "[" * 100_000, "\xff"])
def test_other_forms_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DatasetError) as caught:
        read_coco_results(tmp_path / "r.json", DATASET, TEST)
    assert len(caught.value.problems) == 1
    for missing in (tmp_path / "no.json", tmp_path):
        with pytest.raises(DatasetError, match=r"no such file|cannot be read"):
            read_coco_results(missing, DATASET, TEST)


def test_boxes_a_little_outside_are_cut_off_and_others_by_clip(tmp_path: Path) -> None:
    path = coco(tmp_path / "r.json", [OK | {"bbox": [-1.5, 2, 103, 20]}, OK | {"bbox": [50, 2, 80, 20]}])
    with pytest.raises(DatasetError, match=r"result 2: .* by 30 px"):
        read_coco_results(path, DATASET, TEST)
    read = read_coco_results(path, DATASET, TEST, clip=True)
    assert read.detections.boxes.tolist() == [[0, 2, 100, 22], [50, 2, 100, 22]]
    assert read.notes == ("2 boxes left their image and were cut off at its edge", "2 of 3 images have no detections")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a7 0.5 1 2 10", "is not `image score x1 y1 x2 y2`"),
        ("a7 x 1 2 10 20", "is not `image score"),
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
        read_voc_results(tmp_path, DATASET, TEST)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith("comp4_det_test_cat.txt: line 3: ") and said in str(caught.value)


def test_classes_of_voc_come_from_the_names(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no file such as comp4_det_test_CLASS\.txt"):
        read_voc_results(tmp_path, DATASET, TEST)
    with pytest.raises(DatasetError, match="is no folder"):
        read_voc_results(tmp_path / "no", DATASET, TEST)
    (tmp_path / "comp3_det_val_cat.txt").write_text("b%20c -1.5 1 1 10 20\n")
    (tmp_path / "._comp3_det_val_cat.txt").write_bytes(b"\x00\x05\x16\x07")
    read = read_voc_results(tmp_path, DATASET, TEST)
    assert (read.detections.image.tolist(), read.detections.boxes.tolist()) == ([1], [[0, 0, 10, 20]])
    assert any("no file of class 'big dog/1'" in note for note in read.notes)
    (tmp_path / "comp4_det_test_bird.txt").write_text("")
    with pytest.raises(DatasetError, match="class 'bird' is none of the dataset's: cat, big dog/1"):
        read_voc_results(tmp_path, DATASET, TEST)


def test_a_table_tells_the_class_of_a_file_whose_name_does_not(tmp_path: Path) -> None:
    (tmp_path / "comp4_det_test_big~0123.txt").write_text("a7 1 1 1 10 20\n")
    (tmp_path / "comp4_classes.json").write_text(json.dumps({"comp4_det_test_big~0123.txt": CLASSES[1]}))
    assert read_voc_results(tmp_path, DATASET, TEST).detections.labels.tolist() == [1]
    (tmp_path / "comp4_classes.json").write_text("{")
    with pytest.raises(DatasetError, match=r"comp4_classes\.json: is not JSON"):
        read_voc_results(tmp_path, DATASET, TEST)
