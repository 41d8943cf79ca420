"""The scores worth showing, as a detector finds them: the evaluation's, if it was of this detector."""

import json
from pathlib import Path

import pytest

from cache import Artifact
from cache.errors import StageError
from stages.detector import Detector, _operating_points, _Parts
from stages.trained_files import TrainedFiles

MADE = Artifact("detect", 1, {}, {}, (), {})


def detector(project: Path) -> Detector:
    """One that knows its classifier and its scores alone."""
    points = _operating_points(TrainedFiles(project, "rcnn"), MADE)
    return Detector(_Parts(None, ("cat", "dog"), "svm", points, {}, {}))  # type: ignore[arg-type]


def shown(project: Path) -> list[dict[str, float]]:
    """Return what is shown with box regression, and without."""
    return [dict(detector(project).shown_from(box_regression=with_bbox)) for with_bbox in (True, False)]


def test_the_evaluations_scores_and_the_boundary_elsewhere(tmp_path: Path) -> None:
    natural = {"cat": 0.0, "dog": 0.0}
    assert shown(tmp_path) == [natural, natural]
    assert not detector(tmp_path).is_evaluated
    (tmp_path / "reports").mkdir()
    path = tmp_path / "reports" / "operating_points.json"
    points = {"detect": MADE.digest, "bbox": {"cat": 0.5}, "no_bbox": {"dog": 0.25}}
    path.write_text(json.dumps(points))
    assert shown(tmp_path) == [{"cat": 0.5, "dog": 0.0}, {"cat": 0.0, "dog": 0.25}]
    assert detector(tmp_path).is_evaluated
    path.write_text(json.dumps(points | {"detect": "another"}))
    assert shown(tmp_path) == [natural, natural]
    assert not detector(tmp_path).is_evaluated
    path.write_text(json.dumps(points | {"bbox": {"cat": "0.5"}}))
    with pytest.raises(StageError, match="bbox is not a score for each class"):
        _operating_points(TrainedFiles(tmp_path, "rcnn"), MADE)


def test_precision_is_that_of_the_evaluation_of_this_detector(tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    (reports / "plots").mkdir(parents=True)
    curves = reports / "plots/pr.csv"
    points = _operating_points(TrainedFiles(tmp_path, "rcnn"), MADE)
    found = Detector(_Parts(None, ("cat", "dog"), "svm", points, {}, {}, curves))  # type: ignore[arg-type]
    with pytest.raises(
        StageError, match="the last evaluation was not of this detector alone, so no precision is known"
    ):
        found.precision_curves()
    said = {"detect": MADE.digest, "bbox": {"cat": 0.5}, "no_bbox": {}}
    (reports / "operating_points.json").write_text(json.dumps(said))
    points = _operating_points(TrainedFiles(tmp_path, "rcnn"), MADE)
    found = Detector(_Parts(None, ("cat", "dog"), "svm", points, {}, {}, curves))  # type: ignore[arg-type]
    curves.write_text("regression,class,score,recall,precision\nbbox,cat,2.0,1.0,1.0\n")
    assert found.precision_curves()["cat"].at([2.0, 1.0]).tolist() == [1.0, 0.0]
    with pytest.raises(StageError, match=r"pr\.csv: has no curve, so no precision is known"):
        found.precision_curves(box_regression=False)
    curves.write_text("regression,class,score,recall,precision\nbbox,cat,2.0,1.0,1.0\nbbox,cow,2.0,1.0,1.0\n")
    with pytest.raises(StageError, match=r"pr\.csv: has class 'cow', which the detector does not know"):
        found.precision_curves()
    curves.write_text("class,score\n")
    with pytest.raises(StageError, match=r"pr\.csv: lacks the column 'regression'"):
        found.precision_curves()
