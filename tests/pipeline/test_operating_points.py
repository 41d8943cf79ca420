"""The scores worth showing, as a detector finds them: the evaluation's, if they are of this detector."""

import json
from pathlib import Path

import numpy as np
import pytest

from cache import Artifact
from pipeline.detector import _shown_from
from stages.common.errors import StageError
from stages.common.models import Classifier

CLASSIFIER = Classifier("svm", "fc7", ("cat", "dog"), 1.0, np.ones((2, 2), np.float32), np.ones(2, np.float32))
MADE = Artifact("detect", 1, {}, {}, (), {})


def test_the_evaluations_scores_and_the_boundary_elsewhere(tmp_path: Path) -> None:
    natural = {"cat": 0.0, "dog": 0.0}
    assert _shown_from(tmp_path, CLASSIFIER, MADE) == {True: natural, False: natural}
    (tmp_path / "reports").mkdir()
    path = tmp_path / "reports" / "operating_points.json"
    points = {"detect": MADE.digest, "bbox": {"cat": 0.5}, "no_bbox": {"dog": 0.25}}
    path.write_text(json.dumps(points))
    assert _shown_from(tmp_path, CLASSIFIER, MADE) == {True: {"cat": 0.5, "dog": 0.0}, False: {"cat": 0.0, "dog": 0.25}}
    path.write_text(json.dumps(points | {"detect": "another"}))
    assert _shown_from(tmp_path, CLASSIFIER, MADE) == {True: natural, False: natural}
    path.write_text(json.dumps(points | {"bbox": {"cat": "0.5"}}))
    with pytest.raises(StageError, match="bbox is not a score for each class"):
        _shown_from(tmp_path, CLASSIFIER, MADE)
