"""Names as tools write them, and the files they mean."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.names import NameIndex, match_names, plain_name, shown_names, without_ending

NFC, NFD = "étude", unicodedata.normalize("NFD", "étude")


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("a.jpg", "a.jpg"),
        ("  a.jpg\t", "a.jpg"),
        ('"my photo 1"', "my photo 1"),
        ("'a.jpg'", "a.jpg"),
        ('"', '"'),
        ("./a.jpg", "a.jpg"),
        ("././b//a.jpg", "b/a.jpg"),
        ("images\\train\\a.jpg", "images/train/a.jpg"),
        (".\\a.jpg", "a.jpg"),
        ("images/", "images"),
        ("../a.jpg", "../a.jpg"),
        ("C:\\x\\a.jpg", "C:/x/a.jpg"),
        ("file:///home/u/my%20a.jpg", "/home/u/my a.jpg"),
        ("https://x.org//a.jpg", "https://x.org//a.jpg"),
        ("", ""),
    ],
)
def test_plain_names(written: str, plain: str) -> None:
    assert plain_name(written) == plain
    assert plain_name(plain) == plain


FILES = ["a.jpg", "cam1/f_1.jpg", "cam2/f_1.jpg", "cam1/only.JPG", f"{NFD}.png", "my  photo 1.jpg", "x.y.jpg", "Z.tiff"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a.jpg", "a.jpg"),
        ("A.JPG", "a.jpg"),
        ("a", "a.jpg"),
        ("a.png", "a.jpg"),
        ("./a.jpg", "a.jpg"),
        ('"a"', "a.jpg"),
        (f"{NFC}.png", f"{NFD}.png"),
        (NFC.upper(), f"{NFD}.png"),
        ("my photo 1", "my  photo 1.jpg"),
        ("x.y", "x.y.jpg"),
        ("x", None),
        ("cam1/f_1", "cam1/f_1.jpg"),
        ("data\\set\\cam2\\f_1.jpg", "cam2/f_1.jpg"),
        ("/home/u/cam1/f_1.png", "cam1/f_1.jpg"),
        ("f_1.jpg", None),
        ("cam3/f_1.jpg", None),
        ("only", "cam1/only.JPG"),
        ("C:/x/z.tif", "Z.tiff"),
        ("../a.jpg", None),
        ("http://x/a.jpg", None),
        ("b.jpg", None),
        ("", None),
    ],
)
def test_the_file_that_a_name_means(text: str, found: str | None) -> None:
    assert NameIndex(FILES).find(text) == found


def test_a_name_that_may_mean_two_files_says_which() -> None:
    assert NameIndex(FILES).candidates("f_1") == ["cam1/f_1.jpg", "cam2/f_1.jpg"]
    assert NameIndex(["A.jpg", "a.JPG"]).find("a.jpg") is None
    assert NameIndex(["A.jpg", "a.JPG", "a.jpg"]).find("a.jpg") == "a.jpg"


def test_without_folders_only_the_spelling_may_differ() -> None:
    index = NameIndex(FILES, folders=False)
    assert [index.find(name) for name in ("only.jpg", "CAM1/only.jpg", "cam2/a.jpg")] == [None, "cam1/only.JPG", None]


def test_a_loose_match_never_takes_the_file_of_an_exact_one() -> None:
    assert match_names(["A", "a"], ["a"], folders=True) == {"a": "a"}
    assert match_names(["A", "B"], ["a", "b"], folders=True) == {"A": "a", "B": "b"}
    assert match_names(["Ab", "aB"], ["ab"], folders=True) == {}  # which of the two is not known


_NAME = st.text(st.sampled_from("aAbé1 ._"), min_size=1, max_size=5).map(str.strip).filter(lambda n: n.strip("."))


@given(st.lists(_NAME, unique=True, max_size=8), st.lists(_NAME, unique=True, max_size=8))
@settings(deadline=None)
def test_matches_are_one_to_one_and_keep_every_exact_one(wanted: list[str], files: list[str]) -> None:
    found = match_names(wanted, files, folders=True)
    assert len(set(found.values())) == len(found)
    assert set(found.values()) <= set(files)
    assert all(found[name] == name for name in set(wanted) & set(files))


def test_only_endings_of_pictures_and_annotations_are_endings() -> None:
    assert [without_ending(name) for name in ("d/a.JPG", "a.xml", "a.b", "v1.2", "a.heic")] == [
        "d/a",
        "a",
        "a.b",
        "v1.2",
        "a",
    ]


def test_names_are_shown_with_their_spaces() -> None:
    assert shown_names(["dog", " cat", "hot  dog", "a, b"]) == "dog, ' cat', 'hot  dog', 'a, b'"
