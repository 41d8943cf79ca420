"""The box regressor, which moves regions onto objects, and its file ``artifacts/bbox/model.h5``."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.model_file import ModelFile, read_model_file, write_model_file
from stages.boxes.geometry import BOX_CONVENTION
from stages.kernels.float16 import as_float32

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class BoxRegressor:
    """Linear regressors from features to box transforms, one for each class (paper appendix C).

    Where all share one (``bbox.shared``) its weights stand there once for each.

    Attributes:
        enabled: False for a model that leaves all boxes as they are; it has d = 0 and no trained class.
        layer: the feature layer that is regressed from.
        classes: the N classes' names.
        feature_scale: factor on the features.
        weights: float32 [N, d + 1, 4] to tx, ty, tw, th (``stages.boxes.coding``); the last row is the bias.
        trained: bool [N]; a class without training pairs has zero weights, and so leaves boxes as they are.
        summary: figures for people: the number of training pairs and the errors of each class, or of all together.
    """

    enabled: bool
    layer: str
    classes: tuple[str, ...]
    feature_scale: float
    weights: Floats
    trained: NDArray[np.bool_]
    summary: Mapping[str, Any] = field(default_factory=dict)

    def transforms(self, features: NDArray[Any], labels: NDArray[Any]) -> Floats:
        """Predict the transform of each region by the regressor of its class.

        Args:
            features: float16 or float32 [m, d], as stored.
            labels: int [m], the class of each row.

        Returns:
            float32 [m, 4]; zeros, which move nothing, for untrained classes.
        """
        out = np.zeros((len(labels), 4), np.float32)
        by_class = np.argsort(labels, kind="stable")
        for rows in np.split(by_class, np.flatnonzero(np.diff(np.asarray(labels)[by_class])) + 1):
            j = labels[rows[0]] if len(rows) else 0
            if self.trained[j]:
                x = as_float32(features[rows]) * np.float32(self.feature_scale)
                out[rows] = x @ self.weights[j, :-1] + self.weights[j, -1]
        return out


def write_box_regressor(path: Path, model: BoxRegressor) -> None:
    """Write a box regressor file atomically; the same model gives the same bytes."""
    arrays = {"weights": model.weights, "trained": model.trained}
    attrs = {
        "enabled": bool(model.enabled),
        "summary": json.dumps(model.summary, sort_keys=True),
        "box_convention": BOX_CONVENTION,
    }
    write_model_file(
        path, "box_regressor", arrays, attrs,
        layer=model.layer, classes=model.classes, feature_scale=model.feature_scale,
    )  # fmt: skip


def read_box_regressor(path: Path) -> BoxRegressor:
    """Read a box regressor file; raise StageError naming the file and what is wrong with it."""
    file = read_model_file(path, "box_regressor", {"weights", "trained"}, "bbox")
    layer, classes, scale = file.layer(), file.classes(), file.number("feature_scale")
    enabled = file.attrs.get("enabled")
    if not isinstance(enabled, np.bool_):
        raise file.bad("attribute 'enabled' is missing or no boolean")
    weights = file.array("weights", "f4", (len(classes), None, 4))
    trained = file.array("trained", "?", (len(classes),))
    if not enabled and trained.any():
        raise file.bad("a disabled regressor has trained classes")
    return BoxRegressor(bool(enabled), layer, classes, scale, weights, trained, _summary(file))


def _summary(file: ModelFile) -> dict[str, Any]:
    try:
        summary = json.loads(file.attrs.get("summary", "{}"))
    except (TypeError, ValueError, RecursionError):
        summary = None
    if not isinstance(summary, dict):
        raise file.bad("attribute 'summary' is no JSON mapping")
    return summary
