"""The warning that the authors' limits do not fit a dataset of many objects per image."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stages.detections.settings import DetectSettings
from stages.detections.thresholds import crowded_classes


def images(*labels: list[int]) -> list[Any]:
    """An image per list; a negative label marks a crowd of that class (-1: class 0)."""
    return [SimpleNamespace(labels=np.maximum(np.array(one, int), 0), crowd=np.array(one, int) < 0) for one in labels]


@pytest.mark.parametrize(
    ("settings", "named", "advice"),
    [
        ({}, ["cell"], "set detect.order to suppress_then_cut, or raise both to about 520"),
        ({"rank_factor": 400}, ["cell"], "or raise both to about 520"),
        ({"max_per_class": 400, "rank_factor": 400}, [], ""),
        ({"order": "suppress_then_cut"}, [], ""),
        ({"order": "suppress_then_cut", "rank_factor": 20}, ["cell"], "if objects are missed, raise both to about 104"),
    ],
)
def test_names_the_classes_that_are_cut(settings: dict[str, Any], named: list[str], advice: str) -> None:
    split = images([0] * 12 + [-1] * 9, [0] * 14, [], [1, 1, 1], [1])  # 13 cells, 2 dogs in an image of them; no bird
    lines = list(crowded_classes(split, ("cell", "dog", "bird"), DetectSettings(**settings)))
    assert [line.split("'")[1] for line in lines] == named
    assert all("13 objects" in line and line.endswith(advice) for line in lines)
