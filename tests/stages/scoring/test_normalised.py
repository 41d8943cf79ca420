"""Normalised AP on cases worked out by hand, and against the sentence that defines it."""

import numpy as np
import pytest

from stages.scoring.normalised import normalised_ap, wrong_above
from stages.scoring.voc import area_ap

YES, NO = True, False


def test_a_case_by_hand() -> None:
    """Two of four objects found, with one mistake between; normalised to eight objects, each counts as two."""
    found = normalised_ap(wrong_above(np.array([YES, NO, YES])), 4, 8)
    assert found is not None
    # precisions 2/2, 2/3, 4/5; best from there on 1, 4/5, 4/5; the four objects have 1, 4/5, 0, 0
    assert found.ap == pytest.approx((1 + 0.8) / 4)
    assert found.standard_error == pytest.approx(np.std([1, 0.8, 0, 0], ddof=1) / 2)
    assert (found.n_objects, found.n_found) == (4, 2)


def test_with_as_many_objects_as_there_are_it_is_ap() -> None:
    right = np.random.default_rng(0).random(200) < 0.4
    found = normalised_ap(wrong_above(right), 120, 120)
    recall, precision = right.cumsum() / 120, right.cumsum() / np.arange(1, 201)
    assert found is not None and found.ap == pytest.approx(area_ap(recall, precision))


def test_more_objects_than_there_are_make_precision_better() -> None:
    right = np.random.default_rng(1).random(100) < 0.5
    aps = [found.ap for n in (10, 60, 1000) if (found := normalised_ap(wrong_above(right), 60, n)) is not None]
    assert aps == sorted(aps) and aps[0] < aps[-1]


@pytest.mark.parametrize(
    ("right", "n_objects", "ap"), [([], 3, 0.0), ([NO, NO], 3, 0.0), ([YES], 1, 1.0), ([NO, YES], 1, 0.5)]
)
def test_short_lists(right: list[bool], n_objects: int, ap: float) -> None:
    found = normalised_ap(wrong_above(np.array(right, bool)), n_objects, n_objects)
    assert found is not None and found.ap == pytest.approx(ap) and found.standard_error == 0.0


def test_no_object_has_no_ap() -> None:
    assert normalised_ap(wrong_above(np.array([NO])), 0, 5) is None
