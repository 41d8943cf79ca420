"""JSON that stages hand on: read as it was written, or refused in one line."""

import json
from pathlib import Path

import pytest

from cache.documents import OperatingPoints, read_json, read_operating_points
from cache.errors import StageError

GOOD = {"detect": "0" * 64, "bbox": {"cat": 0.5}, "no_bbox": {}}


def test_operating_points(tmp_path: Path) -> None:
    path = tmp_path / "operating_points.json"
    path.write_text(json.dumps(GOOD))
    assert read_operating_points(path) == OperatingPoints("0" * 64, {"cat": 0.5}, {})


@pytest.mark.parametrize("scores", [[], {"cat": "0.5"}, {"cat": None}, {"cat": float("nan")}, 3, None])
@pytest.mark.parametrize("name", ["bbox", "no_bbox"])
def test_scores_of_another_type(tmp_path: Path, name: str, scores: object) -> None:
    path = tmp_path / "operating_points.json"
    path.write_text(json.dumps(GOOD | {name: scores}))
    with pytest.raises(StageError, match=rf"operating_points\.json: {name} is not a score for each class; run `dvc"):
        read_operating_points(path)


@pytest.mark.parametrize("text", ["[]", "3", "{}", '{"detect": 3}', "{", "[" * 100_000, "\udcff"])
def test_another_document(tmp_path: Path, text: str) -> None:
    path = tmp_path / "operating_points.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(StageError, match=r"operating_points\.json: (not|does not)") as error:
        read_operating_points(path)
    assert len(str(error.value).splitlines()) == 1


def test_json_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(StageError, match=r"metrics\.json: not JSON"):
        read_json(tmp_path / "metrics.json")
