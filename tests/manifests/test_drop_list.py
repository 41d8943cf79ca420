"""Lists of duplicates and of ids as people write them."""

from pathlib import Path

import pytest
from dataset_files import jpeg, put, voc_object, voc_xml
from hypothesis import given
from hypothesis import strategies as st
from plain_arrays import as_boxes, as_labels

from manifests import Dataset, DatasetError, ImageRecord, ReadOptions
from manifests.drop_list import drop_list_text, read_drop_list, read_ids
from manifests.readers.voc import read_flickr_ids, read_voc


def image(number: int, file_name: str) -> ImageRecord:
    return ImageRecord(number, file_name, 9, 9, "0" * 64, "train", as_boxes([]), as_labels([]))


DATASET = Dataset("d", (), (image(1, "a/one.jpg"), image(2, "b/one.jpg"), image(3, "b/two 2.jpg"), image(4, "#.png")))


def test_files_and_names_one_a_line(tmp_path: Path) -> None:
    path = put(tmp_path, {"list": "\ufeff# why\r\n\r\n b/one.jpg \r\ntwo 2\nb/one.jpg\n"}) / "list"
    assert [one.id for one in read_drop_list(path, DATASET)] == [2, 3]
    assert read_drop_list(put(tmp_path, {"none": "# nothing\n"}) / "none", DATASET) == []


def test_all_that_is_wrong_with_a_list_is_told_at_once(tmp_path: Path) -> None:
    path = put(tmp_path, {"list": "one\nthree\nb/two.jpg\ntwo 2\n"}) / "list"
    with pytest.raises(DatasetError) as error:
        read_drop_list(path, DATASET)
    assert str(error.value).splitlines() == [
        f"{path}: line 1: 'one' may be a/one.jpg or b/one.jpg; write the whole file name",
        f"{path}: line 2: dataset d has no image 'three'; correct or remove the line",
        f"{path}: line 3: dataset d has no image 'b/two.jpg'; correct or remove the line",
    ]
    with pytest.raises(DatasetError, match="there is no such file"):
        read_drop_list(tmp_path / "absent", DATASET)


# letters that lists, JSON and comments take for something else, and any that a file's name may have
letters = st.one_of(st.sampled_from("# \"'\\n\n\r\t\ufeff\x85\u2028ab."), st.characters(exclude_categories=["Cs"]))
names = st.text(letters.filter(lambda letter: letter not in "\0/"), min_size=1, max_size=6)


@given(st.lists(names, min_size=1, max_size=5, unique=True), st.data())
def test_any_file_name_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, files: list[str], data: st.DataObject
) -> None:
    """Also where another file is called as the line of the first is written."""
    listed = data.draw(st.lists(st.sampled_from(files), unique=True))
    written = [line for name in listed for line in drop_list_text([], {name: []}).splitlines()[:1]]
    images = tuple(image(number, name) for number, name in enumerate(dict.fromkeys([*files, *written])))
    path = tmp_path_factory.mktemp("lists") / "drop.txt"
    path.write_bytes(drop_list_text(["of\na\rname"], {name: [f"0.1 from {name}"] for name in listed}).encode())
    assert [one.file_name for one in read_drop_list(path, Dataset("d", (), images))] == listed


@pytest.mark.parametrize(
    "name", ["./b/two 2.jpg", "'b/two 2.jpg'", "JPEGImages/b/two 2.jpg", "B\\Two 2.JPG", "two 2.png"]
)
def test_names_are_spelt_as_in_any_list(tmp_path: Path, name: str) -> None:
    put(tmp_path, {"list": f"{name}\n./#.png\n", "ids.csv": f"image,id\n{name},7\n"})
    assert [one.id for one in read_drop_list(tmp_path / "list", DATASET)] == [3, 4]
    assert read_ids(tmp_path / "ids.csv", DATASET) == {"b/two 2.jpg": "7"}


def test_of_one_cause_the_first_few_lines_are_told_in_their_order(tmp_path: Path) -> None:
    rows = "".join(f"x{number}.jpg,{number}\n" for number in range(8, 208))
    path = put(tmp_path, {"ids.csv": "image,id\n" + "two 2,1\n" * 7 + rows}) / "ids.csv"
    with pytest.raises(DatasetError) as error:
        read_ids(path, DATASET)
    assert str(error.value).splitlines() == [
        f"{path}: line 9: dataset d has no image 'x8.jpg'; correct or remove the line",
        f"{path}: line 10: dataset d has no image 'x9.jpg'; correct or remove the line",
        f"{path}: line 11: dataset d has no image 'x10.jpg'; correct or remove the line (and 197 more like this)",
    ]


def test_ids_by_image(tmp_path: Path) -> None:
    path = put(tmp_path, {"ids.csv": 'x,ID,Image\n1,77,a/one.jpg\n\n2,,b/one.jpg\n3,"7,8",two 2\n'}) / "ids.csv"
    assert read_ids(path, DATASET) == {"a/one.jpg": "77", "b/two 2.jpg": "7,8"}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "line 1 names no columns"),
        ("image;id\na;1\n", "line 1 names no columns"),
        ("image,id\ntwo 2\n", "line 2 has fewer columns"),
        ("image,id\ntwo 2,1\nb/two 2.jpg,2\n", "line 3: b/two 2.jpg has another id above"),
        ("image,id\nno,1\n", "line 2: dataset d has no image 'no'"),
        ('image,id\n"' + "x" * 200_000 + '",1\n', "is no CSV file"),
    ],
)
def test_a_table_of_ids_that_is_none(tmp_path: Path, text: str, wrong: str) -> None:
    path = put(tmp_path, {"ids.csv": text}) / "ids.csv"
    with pytest.raises(DatasetError, match=wrong) as error:
        read_ids(path, DATASET)
    assert "\n" not in str(error.value)


def test_flickrs_ids_are_those_of_the_photograph_not_of_its_owner(tmp_path: Path) -> None:
    source = "<source><database>x</database><flickrid>{}</flickrid></source><owner><flickrid>Me</flickrid></owner>"
    bodies = {"a": source.format("341012865"), "b": source.format("0"), "c": source.format("-"), "d": ""}
    files: dict[str, bytes | str] = {}
    for name, body in bodies.items():
        files[f"JPEGImages/{name}.jpg"] = jpeg()
        files[f"Annotations/{name}.xml"] = voc_xml(body + voc_object("cat", (1, 1, 9, 9)))
    put(tmp_path, files)
    dataset, _, _ = read_voc(tmp_path, name="d")
    ids = read_flickr_ids(tmp_path, ReadOptions())
    assert ids == {"a.jpg": "341012865"} and ids.keys() <= {one.file_name for one in dataset.images}
    put(tmp_path, {"Annotations/b.xml": "<annotation>", "Annotations/c.xml": "no"})
    with pytest.raises(DatasetError) as error:
        read_flickr_ids(tmp_path, ReadOptions())
    assert [line.partition(":")[0] for line in str(error.value).splitlines()] == [
        "Annotations/b.xml",
        "Annotations/c.xml",
    ]
