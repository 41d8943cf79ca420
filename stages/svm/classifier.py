"""The classifier, which scores regions for every class, and its file ``artifacts/svm/model.h5``."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.model_file import read_model_file, write_model_file
from stages.boxes.geometry import BOX_CONVENTION
from stages.kernels.float16 import as_float32
from stages.kernels.linear import FEW, linear

_CLASSES_AT_ONCE = 1024  # in a block, at least; fewer than twice as many

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Classifier:
    """Linear classifiers of N classes, which score regions for all of them by one matrix product.

    Attributes:
        kind: "svm" (paper section 2.3) or "softmax" (appendix B: the fine-tuned network's own last layer).
        layer: the feature layer that is scored.
        classes: the N classes' names.
        feature_scale: factor on the features: 20 / mean norm for SVMs, 1 for softmax.
        weights: float32 [N, d].
        bias: float32 [N].
        background_weights: float32 [d], of a softmax alone.
        background_bias: of a softmax alone.
    """

    kind: str
    layer: str
    classes: tuple[str, ...]
    feature_scale: float
    weights: Floats
    bias: Floats
    background_weights: Floats | None = None
    background_bias: float = 0.0

    def class_blocks(self, features: NDArray[Any]) -> Iterator[tuple[int, Floats]]:
        """Yield the scores in blocks of classes, so that a hundred thousand need no more memory than a thousand.

        Values equal those of ``scores``, up to float32 rounding where classes are many. A softmax, whose scores depend
        on each other, comes in one block. A block is overwritten by the next: copy what you keep.

        Args:
            features: float16 or float32 [n, d], as stored.

        Yields:
            (the block's first class, float32 [fewer than 2,048 classes, n] in C order).
        """
        if self.kind != "svm" or len(self.weights) <= FEW:
            yield 0, np.ascontiguousarray(self.scores(features).T)
            return
        x = as_float32(features) * np.float32(self.feature_scale)  # not the weights, of which there are far more
        ends = np.linspace(0, len(self.weights), max(1, len(self.weights) // _CLASSES_AT_ONCE) + 1, dtype=np.int64)
        memory: Floats = np.empty((int(np.diff(ends).max()), len(x)), np.float32)
        for begin, end in pairwise(ends.tolist()):
            margins = np.matmul(self.weights[begin:end], x.T, out=memory[: end - begin])
            margins += self.bias[begin:end, None]
            yield begin, margins

    def scores(self, features: NDArray[Any]) -> Floats:
        """Score regions for all classes: SVM margins, or softmax probabilities without the background's.

        A margin is ``(feature * feature_scale) @ w + b``; the scale is folded into w, and all is float32.

        Args:
            features: float16 or float32 [n, d], as stored.

        Returns:
            float32 [n, N].
        """
        scale = np.float32(self.feature_scale)
        margins = linear(features, self.weights * scale) + self.bias
        if self.kind == "svm":
            return margins
        assert self.background_weights is not None
        background = linear(features, self.background_weights[None] * scale) + np.float32(self.background_bias)
        logits = np.concatenate([background, margins], axis=1)
        # subtracting the row's maximum changes no ratio and keeps exp() finite
        e = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        probabilities: Floats = e / e.sum(axis=1, keepdims=True)
        return probabilities[:, 1:]


def write_classifier(path: Path, model: Classifier) -> None:
    """Write a classifier file atomically; the same model gives the same bytes."""
    arrays: dict[str, NDArray[Any]] = {"weights": model.weights, "bias": model.bias}
    attrs: dict[str, Any] = {"kind": model.kind, "box_convention": BOX_CONVENTION}
    if model.background_weights is not None:
        arrays["background_weights"] = model.background_weights
        attrs["background_bias"] = float(model.background_bias)
    write_model_file(
        path, "classifier", arrays, attrs,
        layer=model.layer, classes=model.classes, feature_scale=model.feature_scale,
    )  # fmt: skip


def read_classifier(path: Path) -> Classifier:
    """Read a classifier file; raise StageError naming the file and what is wrong with it."""
    file = read_model_file(path, "classifier", {"weights", "bias", "background_weights"}, "svm")
    layer, classes, scale = file.layer(), file.classes(), file.number("feature_scale")
    kind = file.attrs.get("kind")
    if kind not in ("svm", "softmax"):
        raise file.bad(f"kind is {kind!r}, expected 'svm' or 'softmax'")
    weights = file.array("weights", "f4", (len(classes), None))
    bias = file.array("bias", "f4", (len(classes),))
    background, background_bias = None, 0.0
    if kind == "softmax":
        background = file.array("background_weights", "f4", (weights.shape[1],))
        background_bias = file.number("background_bias")
    elif "background_weights" in file.arrays:
        raise file.bad("an SVM model holds background_weights, which only a softmax has")
    return Classifier(kind, layer, classes, scale, weights, bias, background, background_bias)
