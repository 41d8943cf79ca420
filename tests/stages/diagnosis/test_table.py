"""A table of characteristics: what it gives each object, and one line for each thing that is wrong in it."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from manifests import Dataset, DatasetError, ImageRecord
from manifests.manifest_json import annotation_ids, dataset_to_json
from manifests.select import select
from stages.diagnosis.table import no_such_table, object_rows, read_table

ROWS = {1: 0, 2: 1, 3: None}


def record(number: int, split: str, labels: list[int], boxes: list[list[float]] | None = None) -> ImageRecord:
    boxes = [[k, 0, k + 5, 5] for k in range(len(labels))] if boxes is None else boxes
    return ImageRecord(number, f"{number}.jpg", 50, 50, "0" * 64, split, np.array(boxes), np.array(labels))


def written(path: Path, *lines: str) -> Path:
    file = path / "table.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_values_by_characteristic_and_object(tmp_path: Path) -> None:
    lines = ("Annotation, name ,value", "1,part.wing,1", "2,part.wing, 0", '1,note,"a, b"', "", "3,side,left")
    file = written(tmp_path, *lines)
    found = read_table(file, ROWS)
    assert found.values == {"part.wing": {0: "1", 1: "0"}, "note": {0: "a, b"}}
    assert found.notes == (f"{file}: no line of side is of an object that is tested, so it is left out",)


def test_a_heading_alone_is_told(tmp_path: Path) -> None:
    file = written(tmp_path, "annotation,name,value", "")
    found = read_table(file, ROWS)
    assert found.values == {}
    assert found.notes == (f"{file}: has no line but its heading, so there is no characteristic in it",)


def test_excel_s_bytes_are_read(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes("\ufeffannotation,name,value\r\n2,größe,3\r\n".encode())
    assert read_table(file, ROWS).values == {"größe": {1: "3"}}


def test_nan_is_a_word_among_words_and_no_matter_of_objects_that_are_not_tested(tmp_path: Path) -> None:
    lines = ("1,kind,nan", "2,kind,red", "1,part.area,1", "3,part.area,inf")
    found = read_table(written(tmp_path, "annotation,name,value", *lines), ROWS)
    assert found.values == {"kind": {0: "nan", 1: "red"}, "part.area": {0: "1"}}


def test_one_infinity_among_many_numbers_is_one_line(tmp_path: Path) -> None:
    many = {number: number - 1 for number in range(1, 32)}
    lines = [f"{number},depth,{'inf' if number in (7, 9) else number / 4}" for number in many]
    with pytest.raises(DatasetError) as error:
        read_table(written(tmp_path, "annotation,name,value", *lines), many)
    assert len(error.value.problems) == 1 and "line 8: value 'inf' of depth" in error.value.problems[0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("9,kind,x", "line 2: annotation '9' is none of the dataset's"),
        ("x,kind,x", "line 2: annotation 'x' is none"),
        ("1,kind", "line 2: has 2 values, not 3: annotation,name,value"),
        ("1,kind,", "line 2: annotation 1 has no value of kind"),
        ("1,a b,x", "line 2: name 'a b': letters"),
        ("1,a.b.c,x", "name 'a.b.c'"),
        ("1,area,x", "name 'area' is that of a characteristic that is always there"),
        ("1,area.x,3", "name 'area.x' is that of a characteristic that is always there, or of its group"),
        ("1,size,3\n2,size,nan", "line 3: value 'nan' of size is no finite number, as others are; leave the line out"),
        ("1,size,-inf\n2,size,3", "line 2: value '-inf' of size is no finite number"),
        ("2,size,1e999\n1,size,3", "line 2: value '1e999' of size is no finite number"),
        ("1,kind,x\n1,kind,y", "line 3: annotation 1 has a value of kind already"),
        ('1,kind,"x', "is no CSV"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(DatasetError) as error:
        read_table(written(tmp_path, "annotation,name,value", line), ROWS)
    assert len(error.value.problems) == 1 and said in error.value.problems[0]
    assert error.value.problems[0].startswith(f"{tmp_path}/table.csv: ")


def test_a_table_without_its_heading_or_with_too_many_words(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"begins with 'id,kind'; its first line must be annotation,name,value"):
        read_table(written(tmp_path, "id,kind"), ROWS)
    many = {number: number - 1 for number in range(1, 30)}
    words = [f"{number},kind,w{number}" for number in many]
    with pytest.raises(DatasetError, match="kind has 29 different values, such as 'w1'; 20 at most, or numbers alone"):
        read_table(written(tmp_path, "annotation,name,value", *words), many)
    numbers = [f"{number},kind,{number}.5" for number in many]
    assert len(read_table(written(tmp_path, "annotation,name,value", *numbers), many).values["kind"]) == 29


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as error:
        read_table(written(tmp_path, "annotation,name,value", "9,a,x", "1,a,", "1,pose,x"), ROWS)
    assert len(error.value.problems) == 3


def test_problems_are_in_the_order_of_the_lines(tmp_path: Path) -> None:
    many = {number: number for number in range(1, 40)}
    words = [f"{number},kind,w{number}" for number in range(1, 30)]
    lines = ["99,a,x", "31,a,", "98,a,x", "32,a,inf", "33,a,1", "34,pose,x", *words, '35,a,"x']
    with pytest.raises(DatasetError) as error:
        read_table(written(tmp_path, "annotation,name,value", *lines), many)
    told = [line.partition("table.csv: ")[2] for line in error.value.problems]
    assert [line.partition(":")[0] for line in told] == [
        "characteristic kind has 29 different values, such as 'w1'; 20 at most, or numbers alone, which are put into "
        "bins",
        *(f"line {number}" for number in (2, 3, 4, 5, 7, 37)),
    ]


def test_a_compressed_table_and_one_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(gzip.compress(b"annotation,name,value\n"))
    with pytest.raises(DatasetError, match=r"t\.csv: is compressed \(gzip\); unpack it"):
        read_table(tmp_path / "t.csv", ROWS)
    with pytest.raises(DatasetError, match=r"no\.csv: there is no such file in .*; correct the path"):
        read_table(tmp_path / "no.csv", ROWS)


def test_annotation_ids_are_those_of_the_manifest() -> None:
    dataset = Dataset("d", ("a", "b"), (record(5, "test", [0, 1]), record(2, "train", []), record(9, "test", [1])))
    assert [list(ids) for ids in annotation_ids(dataset)] == [[1, 2], [], [3]]
    text = dataset_to_json(dataset).decode()
    assert '{"id": 3, "image_id": 9,' in text


def test_objects_are_known_again_in_a_run_with_other_splits_and_classes() -> None:
    same = [[1.0, 1, 8, 8]] * 3
    dataset = Dataset(
        "d",
        ("a", "b", "c"),
        (record(1, "train", [1, 2]), record(2, "test", [0, 1, 1], same), record(3, "test", [2, 1])),
    )
    run = select(dataset, "train", "test", ["c", "b"])
    rows = object_rows(dataset, run.split("test"), run.classes)
    # ids 1, 2 are of train; 3 is of class a; the equal boxes of class b keep their order; then c and b
    assert rows == {1: None, 2: None, 3: None, 4: 0, 5: 1, 6: 2, 7: 3}
    assert object_rows(dataset, dataset.images, dataset.classes) == {number: number - 1 for number in range(1, 8)}


def test_a_table_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "sides.csv").touch()
    said = no_such_table(tmp_path, "side")
    assert "diagnose.characteristics = 'side': there is no" in said and "(did you mean 'sides'?)" in said
    assert "there are: none" in no_such_table(tmp_path / "empty", "x")
