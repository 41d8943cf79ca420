"""Detectors of other classes or images are refused, in a line that names both."""

from types import SimpleNamespace

import pytest

from cache.errors import StageError
from stages.comparison.inputs import Searched, check_comparable

IMAGES = tuple("abcd")


def run(name: str, classes: str = "cat dog", images: tuple[str, ...] = IMAGES) -> Searched:
    return SimpleNamespace(name=name, classes=classes.split(), images=images)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (run("two", "dog cat"), "they are in another order"),
        (run("two", "cat dog cow"), "cow only two's"),
        (run("two", "cat"), "dog only one's"),
        (run("two", "cat cow"), "cow only two's, dog only one's"),
        (run("two", "a b c d e"), "a, b, c and 2 more only two's, cat, dog only one's"),
        (run("two", images=tuple("abc")), "tested on 3 images and one on 4, of which 3 are the same"),
        (run("two", images=tuple("abcx")), "tested on 4 images and one on 4, of which 3 are the same"),
        (run("two", images=tuple("abcdd")), "tested on 5 images and one on 4, of which 4 are the same"),
    ],
)
def test_what_differs_is_said_in_one_line(other: Searched, expected: str) -> None:
    with pytest.raises(StageError) as caught:
        check_comparable([run("one"), run("fits"), other])
    (line,) = str(caught.value).splitlines()
    assert expected in line
    assert "two" in line and "one" in line and "fits" not in line
    assert "dvc repro" in line


def test_every_detector_that_differs_has_a_line() -> None:
    with pytest.raises(StageError) as caught:
        check_comparable([run("one"), run("two", "x"), run("three", images=("z",))])
    assert [line.split()[1] for line in str(caught.value).splitlines()] == ["two", "three"]


def test_equal_ones_fit_in_whatever_order_the_images_were_searched() -> None:
    check_comparable([run("one")])
    check_comparable([run("one"), run("two", images=IMAGES[::-1])])
