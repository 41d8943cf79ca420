"""The regressors, which say how much a region overlaps each class, and their file ``artifacts/svr/model.h5``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from cache.model_file import ModelFile, read_model_file, write_model_file
from stages.kernels.linear import linear

from .paste import Ranked, ranked
from .settings import Further

FEATURES = ("full", "fg", "full_fg")
FURTHER: tuple[Further, ...] = get_args(Further)
_TYPE = "regressors"
_CHOSEN = ("C", "epsilon")  # attributes of a file whose values were chosen


@dataclass(frozen=True)
class Regressors:
    """Linear regressors of N classes and of what is ``further`` asked for; a score is the overlap that is expected.

    Attributes:
        features: ``full``, ``fg`` or ``full_fg``.
        layer: the feature layer.
        classes: the N classes' names.
        feature_scale: factor on the features: 1 / mean norm.
        weights: float32 [N + F, d].
        means: float32 [N + F], the mean overlap of the training rows with each class. Deliberate: they are added to
            what the weights say, so that scores of several classes are overlaps and can be compared.
        further: the F last rows': the background, an object of any class.
        chosen: C and epsilon, where they were chosen of several.
    """

    features: str
    layer: str
    classes: tuple[str, ...]
    feature_scale: float
    weights: NDArray[np.float32]
    means: NDArray[np.float32]
    further: tuple[Further, ...] = ()
    chosen: tuple[float, float] | None = None

    def scores(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Score regions for all classes and what is further: float16 or float32 [n, d], as stored -> [n, N + F]."""
        found: NDArray[np.float32] = linear(rows, self.weights * np.float32(self.feature_scale)) + self.means
        return found

    def ranked(self, rows: NDArray[Any], rank_regions: int | None) -> Ranked:
        """Rank an image's regions by the class that scores best; the background, where it is one, is class N.

        Args:
            rows: float16 or float32 [n, d], as stored.
            rank_regions: how many take part, those that score best for an object of any class; None: all.
        """
        scores, n = self.scores(rows), len(self.classes)
        own = scores[:, : n + ("background" in self.further)]
        if rank_regions is None:
            return ranked(own)
        blind = scores[:, n + self.further.index("object")]
        best = np.sort(np.argsort(-blind, kind="stable")[:rank_regions])
        return ranked(own[best]).among(best)


def write_regressors(path: Path, model: Regressors) -> None:
    """Write the regressors' file atomically; the same model gives the same bytes."""
    arrays = {"weights": model.weights, "means": model.means}
    more: dict[str, Any] = {"further": json.dumps(model.further)} if model.further else {}
    if model.chosen is not None:
        more |= dict(zip(_CHOSEN, map(float, model.chosen), strict=True))
    write_model_file(
        path, _TYPE, arrays, {"features": model.features, **more},
        layer=model.layer, classes=model.classes, feature_scale=model.feature_scale,
    )  # fmt: skip


def read_regressors(path: Path) -> Regressors:
    """Read a regressors' file; raise StageError naming the file and what is wrong with it."""
    file = read_model_file(path, _TYPE, {"weights", "means"}, "segmentation/dvc.yaml:svr")
    layer, classes, scale = file.layer(), file.classes(), file.number("feature_scale")
    features = file.attrs.get("features")
    if features not in FEATURES:
        raise file.bad(f"features is {features!r}, expected one of {', '.join(FEATURES)}")
    further = _further(file)
    n = len(classes) + len(further)
    weights, means = file.array("weights", "f4", (n, None)), file.array("means", "f4", (n,))
    chosen = (file.number("C"), file.number("epsilon")) if any(name in file.attrs for name in _CHOSEN) else None
    return Regressors(str(features), layer, classes, scale, weights, means, further, chosen)


def _further(file: ModelFile) -> tuple[Further, ...]:
    """Which regressors there are beside the classes'."""
    try:
        found = json.loads(file.attrs.get("further", "[]"))
    except (TypeError, ValueError, RecursionError):
        found = None
    if found != [one for one in FURTHER if isinstance(found, list) and one in found]:
        raise file.bad(f"attribute 'further' is no list of {', '.join(FURTHER)} in this order")
    return tuple(found)
