"""The regressors, which say how much a region overlaps each class, and their file ``artifacts/svr/model.h5``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.model_file import read_model_file, write_model_file
from stages.kernels.linear import linear

FEATURES = ("full", "fg", "full_fg")
_TYPE = "regressors"


@dataclass(frozen=True)
class Regressors:
    """Linear regressors of N classes; a score is the overlap that is expected.

    Attributes:
        features: ``full``, ``fg`` or ``full_fg``.
        layer: the feature layer.
        classes: the N classes' names.
        feature_scale: factor on the features: 1 / mean norm.
        weights: float32 [N, d].
        means: float32 [N], the mean overlap of the training rows with each class. Deliberate: they are added to what
            the weights say, so that scores of several classes are overlaps and can be compared.
    """

    features: str
    layer: str
    classes: tuple[str, ...]
    feature_scale: float
    weights: NDArray[np.float32]
    means: NDArray[np.float32]

    def scores(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Score regions for all classes: float16 or float32 [n, d], as stored -> float32 [n, N]."""
        found: NDArray[np.float32] = linear(rows, self.weights * np.float32(self.feature_scale)) + self.means
        return found


def write_regressors(path: Path, model: Regressors) -> None:
    """Write the regressors' file atomically; the same model gives the same bytes."""
    arrays = {"weights": model.weights, "means": model.means}
    write_model_file(
        path, _TYPE, arrays, {"features": model.features},
        layer=model.layer, classes=model.classes, feature_scale=model.feature_scale,
    )  # fmt: skip


def read_regressors(path: Path) -> Regressors:
    """Read a regressors' file; raise StageError naming the file and what is wrong with it."""
    file = read_model_file(path, _TYPE, {"weights", "means"}, "segmentation/dvc.yaml:svr")
    layer, classes, scale = file.layer(), file.classes(), file.number("feature_scale")
    features = file.attrs.get("features")
    if features not in FEATURES:
        raise file.bad(f"features is {features!r}, expected one of {', '.join(FEATURES)}")
    weights = file.array("weights", "f4", (len(classes), None))
    return Regressors(str(features), layer, classes, scale, weights, file.array("means", "f4", (len(classes),)))
