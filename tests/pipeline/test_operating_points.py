"""The scores worth showing, as a detector reads them: a file of another form is refused in one line."""

import json
from pathlib import Path

import numpy as np
import pytest

from cache import Artifact
from pipeline.detector import _shown_from
from stages.common.errors import StageError
from stages.common.models import Classifier

CLASSIFIER = Classifier("svm", "fc7", ("cat",), 1.0, np.ones((1, 2), np.float32), np.ones(1, np.float32))
MADE = Artifact("detect", 1, {}, {}, (), {})


@pytest.mark.parametrize("scores", [[], {"cat": "0.5"}, {"cat": None}, 3, None])
def test_scores_of_another_type(tmp_path: Path, scores: object) -> None:
    (tmp_path / "reports").mkdir()
    text = json.dumps({"detect": MADE.digest, "bbox": {"cat": 0.5}, "no_bbox": scores})
    (tmp_path / "reports" / "operating_points.json").write_text(text)
    with pytest.raises(StageError, match="no_bbox is not a score for each class"):
        _shown_from(tmp_path, CLASSIFIER, MADE)


@pytest.mark.parametrize("text", ["[]", "3", "[" * 100_000])
def test_no_mapping(tmp_path: Path, text: str) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "operating_points.json").write_text(text)
    with pytest.raises(StageError, match=r"operating_points\.json: not"):
        _shown_from(tmp_path, CLASSIFIER, MADE)
