"""Toy per-image tasks for the executors."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from cache import Recipe
from manifests import ImageRecord
from stages.contract import ImageTask


def toy_task(number: int, value: int, args: Mapping[str, Any] | None = None) -> ImageTask:
    record = ImageRecord(
        id=number,
        file_name=f"{number}.png",
        width=4,
        height=4,
        sha256="0" * 64,
        split="train",
        boxes=np.zeros((0, 4), np.float32),
        labels=np.zeros(0, np.int64),
        difficult=np.zeros(0, bool),
        truncated=np.zeros(0, bool),
        crowd=np.zeros(0, bool),
    )
    return ImageTask(record, Recipe(stage="toy", version=1, params={"value": value}, inputs={}), args=args or {})


@pytest.fixture(scope="session")
def task() -> Callable[..., ImageTask]:
    """``task(number, value)``: image NUMBER.png, whose object depends on the value only."""
    return toy_task
