"""Text for people: the name that was probably meant."""

import pytest

from cache.text import counted, nearest

KNOWN = ("pool5", "fc6", "fc7", "C")


@pytest.mark.parametrize(
    ("name", "most", "said"),
    [
        ("pool_5", 1, " (did you mean 'pool5'?)"),
        ("POOL5", 1, " (did you mean 'pool5'?)"),
        ("c", 1, " (did you mean 'C'?)"),
        ("fc6", 3, " (did you mean 'fc6' or 'fc7'?)"),
        ("xyz", 3, ""),
        ("", 1, ""),
    ],
)
def test_the_hint_names_what_is_near_whatever_its_case(name: str, most: int, said: str) -> None:
    assert nearest(name, KNOWN, most) == said


def test_several_hints_are_joined_as_one_says_them() -> None:
    assert nearest("fc", ["fc6", "fc7", "fc8"], 3).count("'fc") == 3
    assert nearest("fc", ["fc6", "fc7", "fc8"], 3).count(" or ") == 1
    assert nearest("fc", []) == ""


@pytest.mark.parametrize(("n", "expected"), [(0, "0 classes"), (1, "1 class"), (2, "2 classes")])
def test_numbers_of_things(n: int, expected: str) -> None:
    assert counted(n, "class", "classes") == expected
    assert counted(n, "scale") == expected.replace("classes", "scales").replace("class", "scale")
