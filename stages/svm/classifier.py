"""The classifier, which scores regions for every class, and its file ``artifacts/svm/model.h5``."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.model_file import read_model_file, write_model_file
from stages.kernels.float16 import as_float32
from stages.kernels.linear import FEW, linear

_CLASSES_AT_ONCE = 1024  # of a product; up to twice as many

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Classifier:
    """Scores regions for every class by one matrix product.

    ``kind`` is "svm" (paper section 2.3) or "softmax" (appendix B: the fine-tuned network's own last layer).
    weights float32 [N, d]; bias float32 [N]; ``feature_scale`` multiplies the features first (20 / mean norm for SVMs,
    1 for softmax). A softmax classifier also has its background row: background_weights float32 [d], background_bias.
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
        """The scores in parts, by class: (first class, float32 [fewer than 2,048, n] in C order).

        Equal to those of :meth:`scores`, of many classes but for rounding. So a hundred thousand classes need no more
        memory than a thousand. A softmax, whose scores depend on each other, comes in one part. The next part
        overwrites the last.
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
        """[n, d] features as stored -> float32 [n, N]: SVM margins, or softmax probabilities without background.

        A margin is ``(feature * feature_scale) @ w + b``; the scale is folded into w, and all is float32.
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
        return (e / e.sum(axis=1, keepdims=True))[:, 1:]


def write_classifier(path: Path, model: Classifier) -> None:
    """Write atomically; the same model gives the same bytes."""
    arrays: dict[str, NDArray[Any]] = {"weights": model.weights, "bias": model.bias}
    attrs: dict[str, Any] = {"kind": model.kind}
    if model.background_weights is not None:
        arrays["background_weights"] = model.background_weights
        attrs["background_bias"] = float(model.background_bias)
    write_model_file(
        path, "classifier", arrays, attrs,
        layer=model.layer, classes=model.classes, feature_scale=model.feature_scale,
    )  # fmt: skip


def read_classifier(path: Path) -> Classifier:
    """Read and check a classifier file. StageError naming the file and what is wrong with it."""
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
