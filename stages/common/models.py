"""The two small models of a detector, and their files: HDF5 that ``h5py.File`` explains, no pickle, checked on reading.

``artifacts/svm/model.h5`` holds a :class:`Classifier`, ``artifacts/bbox/model.h5`` a :class:`BoxRegressor`.
"""

import io
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import atomic_write
from cache.plain_hdf5 import check_heaps, plain_dataset, read_values

from .boxes import BOX_CONVENTION
from .errors import StageError
from .half import as_float32
from .product import FEW, product

FORMAT_VERSION = 1
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
        margins = product(features, self.weights * scale) + self.bias
        if self.kind == "svm":
            return margins
        assert self.background_weights is not None
        background = product(features, self.background_weights[None] * scale) + np.float32(self.background_bias)
        logits = np.concatenate([background, margins], axis=1)
        # subtracting the row's maximum changes no ratio and keeps exp() finite
        e = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        return (e / e.sum(axis=1, keepdims=True))[:, 1:]


@dataclass(frozen=True)
class BoxRegressor:
    """Class-specific linear box regressors (paper appendix C).

    weights float32 [N, d + 1, 4], the last row being the bias, to ``tx, ty, tw, th`` (``box_coding``).
    trained bool [N]: a class without training pairs has zero weights, so that it leaves boxes as they are.
    A disabled regressor has d = 0 and no trained class. ``summary`` holds figures for people
    (training error per class).
    """

    enabled: bool
    layer: str
    classes: tuple[str, ...]
    feature_scale: float
    weights: Floats
    trained: NDArray[np.bool_]
    summary: Mapping[str, Any] = field(default_factory=dict)

    def transforms(self, features: NDArray[Any], labels: NDArray[Any]) -> Floats:
        """[m, d] features as stored, int [m] class of each row -> float32 [m, 4]; zeros (stay put) where untrained."""
        out = np.zeros((len(labels), 4), np.float32)
        by_class = np.argsort(labels, kind="stable")
        for rows in np.split(by_class, np.flatnonzero(np.diff(np.asarray(labels)[by_class])) + 1):
            j = labels[rows[0]] if len(rows) else 0
            if self.trained[j]:
                x = as_float32(features[rows]) * np.float32(self.feature_scale)
                out[rows] = x @ self.weights[j, :-1] + self.weights[j, -1]
        return out


def write_classifier(path: Path, model: Classifier) -> None:
    """Write atomically; the same model gives the same bytes."""
    arrays: dict[str, NDArray[Any]] = {"weights": model.weights, "bias": model.bias}
    attrs: dict[str, Any] = {"kind": model.kind, "feature_scale": float(model.feature_scale)}
    if model.background_weights is not None:
        arrays["background_weights"] = model.background_weights
        attrs["background_bias"] = float(model.background_bias)
    _write(path, arrays, {**attrs, **_common_attrs("classifier", model)})


def read_classifier(path: Path) -> Classifier:
    """Read and check a classifier file. StageError naming the file and what is wrong with it."""
    arrays, attrs = _read(path, "classifier", {"weights", "bias", "background_weights"}, "svm")
    layer, classes, scale = _check_common(path, attrs, "svm")
    kind = attrs.get("kind")
    if kind not in ("svm", "softmax"):
        raise _bad(path, "svm", f"kind is {kind!r}, expected 'svm' or 'softmax'")
    weights, bias = arrays.get("weights"), arrays.get("bias")
    _check_array(path, "svm", "weights", weights, "f4", (len(classes), None))
    _check_array(path, "svm", "bias", bias, "f4", (len(classes),))
    assert weights is not None and bias is not None
    background = arrays.get("background_weights")
    background_bias = 0.0
    if kind == "softmax":
        _check_array(path, "svm", "background_weights", background, "f4", (weights.shape[1],))
        background_bias = _number(path, "svm", attrs, "background_bias")
    elif background is not None:
        raise _bad(path, "svm", "an SVM model holds background_weights, which only a softmax has")
    return Classifier(kind, layer, classes, scale, weights, bias, background, background_bias)


def write_box_regressor(path: Path, model: BoxRegressor) -> None:
    """Write atomically; the same model gives the same bytes."""
    attrs = {
        "enabled": bool(model.enabled),
        "feature_scale": float(model.feature_scale),
        "summary": json.dumps(model.summary, sort_keys=True),
    }
    arrays = {"weights": model.weights, "trained": model.trained}
    _write(path, arrays, {**attrs, **_common_attrs("box_regressor", model)})


def read_box_regressor(path: Path) -> BoxRegressor:
    """Read and check a box regressor file. StageError naming the file and what is wrong with it."""
    arrays, attrs = _read(path, "box_regressor", {"weights", "trained"}, "bbox")
    layer, classes, scale = _check_common(path, attrs, "bbox")
    if not isinstance(attrs.get("enabled"), np.bool_):
        raise _bad(path, "bbox", "attribute 'enabled' is missing or no boolean")
    weights, trained = arrays.get("weights"), arrays.get("trained")
    _check_array(path, "bbox", "weights", weights, "f4", (len(classes), None, 4))
    _check_array(path, "bbox", "trained", trained, "?", (len(classes),))
    assert weights is not None and trained is not None
    if not attrs["enabled"] and trained.any():
        raise _bad(path, "bbox", "a disabled regressor has trained classes")
    try:
        summary = json.loads(attrs.get("summary", "{}"))
    except (TypeError, ValueError, RecursionError):
        summary = None
    if not isinstance(summary, dict):
        raise _bad(path, "bbox", "attribute 'summary' is no JSON mapping")
    return BoxRegressor(bool(attrs["enabled"]), layer, classes, scale, weights, trained, summary)


def _common_attrs(model_type: str, model: Classifier | BoxRegressor) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "model_type": model_type,
        "layer": model.layer,
        "classes": json.dumps(list(model.classes)),
        "box_convention": BOX_CONVENTION,
    }


def _write(path: Path, arrays: Mapping[str, NDArray[Any]], attrs: Mapping[str, Any]) -> None:
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name in sorted(arrays):
            file.create_dataset(name, data=arrays[name])
        for name in sorted(attrs):
            file.attrs[name] = attrs[name]
    atomic_write(path, buffer.getvalue())


def _read(
    path: Path, model_type: str, known: Collection[str], stage: str
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """All attributes, and the known arrays; links and data kept in other files are not followed."""
    import h5py

    if not path.is_file():
        raise StageError(f"{path}: no such file; run `dvc repro -s {stage}` to make it")
    try:
        data = path.read_bytes()
        check_heaps(data)
        with h5py.File(io.BytesIO(data), "r") as file:
            attrs = dict(file.attrs)
            names = [str(name) for name in file]
            arrays = {name: read_values(plain_dataset(file, name)) for name in names if name in known}
    except Exception as error:  # HDF5 has no base class of its own for what damaged bytes lead to
        reason = " ".join(str(error).split())
        raise _bad(path, stage, f"not a readable HDF5 file ({reason})") from None
    version = attrs.get("format_version")
    if not isinstance(version, int | np.integer) or attrs.get("model_type") != model_type:
        raise _bad(path, stage, f"not a {model_type} file (model_type is {attrs.get('model_type')!r})")
    if version > FORMAT_VERSION:
        raise StageError(
            f"{path}: written by a newer version (format {version}, this program reads up to {FORMAT_VERSION}); "
            "update the program"
        )
    if unknown := sorted(set(names) - set(known)):
        raise _bad(path, stage, f"unknown arrays {', '.join(unknown)}")
    return arrays, attrs


def _check_common(path: Path, attrs: Mapping[str, Any], stage: str) -> tuple[str, tuple[str, ...], float]:
    layer = attrs.get("layer")
    if not isinstance(layer, str) or not layer:
        raise _bad(path, stage, "attribute 'layer' is missing or no text")
    try:
        classes = json.loads(attrs.get("classes", ""))
    except (TypeError, ValueError, RecursionError):
        classes = None
    if not isinstance(classes, list) or not classes or not all(isinstance(c, str) for c in classes):
        raise _bad(path, stage, "attribute 'classes' is no JSON list of class names")
    return layer, tuple(classes), _number(path, stage, attrs, "feature_scale")


def _number(path: Path, stage: str, attrs: Mapping[str, Any], name: str) -> float:
    value = attrs.get(name)
    if not isinstance(value, float | np.floating) or not np.isfinite(value):
        raise _bad(path, stage, f"attribute '{name}' is missing or no finite number")
    return float(value)


def _check_array(
    path: Path,
    stage: str,
    name: str,
    array: NDArray[Any] | None,
    dtype: str,
    shape: tuple[int | None, ...],
) -> None:
    if array is None:
        raise _bad(path, stage, f"array '{name}' is missing")
    fits = len(array.shape) == len(shape) and all(e in (None, a) for a, e in zip(array.shape, shape, strict=True))
    if not fits or array.dtype != np.dtype(dtype):
        expected = "x".join("any" if e is None else str(e) for e in shape)
        got = "x".join(map(str, array.shape))
        raise _bad(path, stage, f"array '{name}' is {array.dtype} {got}, expected {np.dtype(dtype)} {expected}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise _bad(path, stage, f"array '{name}' holds values that are not finite")


def _bad(path: Path, stage: str, problem: str) -> StageError:
    return StageError(f"{path}: {problem}; remove it and run `dvc repro -s -f {stage}`")
