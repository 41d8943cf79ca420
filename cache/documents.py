"""The JSON files that stages write beside the store: how they are written and read, and the one that stages share.

That one is ``operating_points.json``: the evaluation chooses a score per class, and whoever draws detections starts
there. Each other file is checked by the one stage that reads it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import StageError

_AGAIN = "run `dvc repro -f -s evaluate`"


def read_json(path: Path) -> Any:
    """Read a JSON document; StageError if it is not one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise StageError(f"{path}: not JSON ({error}); remove it and run `dvc repro`") from error


def json_text(value: Any) -> str:
    """Write a value as indented JSON, keys in their order; a number that JSON does not know (NaN) is a ValueError."""
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class OperatingPoints:
    """Score with the best F1 per class, with and without box regression; ``detect``: digest of the detections."""

    detect: str
    bbox: Mapping[str, float]
    no_bbox: Mapping[str, float]


def read_operating_points(path: Path) -> OperatingPoints:
    """Read what the evaluation wrote to ``operating_points.json``; StageError if it is of another form."""
    points = read_json(path)
    if not isinstance(points, dict):
        raise StageError(f"{path}: not a mapping; {_AGAIN}")
    if not isinstance(points.get("detect"), str):
        raise StageError(f"{path}: does not name the detections that it is of; {_AGAIN}")
    for name in ("bbox", "no_bbox"):
        scores = points.get(name)
        if not isinstance(scores, dict) or not all(type(s) is float and math.isfinite(s) for s in scores.values()):
            raise StageError(f"{path}: {name} is not a score for each class; {_AGAIN}")
    return OperatingPoints(points["detect"], points["bbox"], points["no_bbox"])
