"""Files of trained models: HDF5 that ``h5py.File`` explains, no pickle; the same model gives the same bytes.

What all models have stands here (the layer, the classes, the feature scale, what the file says of itself), written by
``write_model_file`` and checked on reading by ``read_model_file``; what sets a type of model apart stands beside it.
"""

import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import StageError
from .files import atomic_write
from .untrusted import check_heaps, plain_dataset, read_values

MODEL_FORMAT = 1


def write_model_file(
    path: Path,
    model_type: str,
    arrays: Mapping[str, NDArray[Any]],
    attrs: Mapping[str, Any],
    *,
    layer: str,
    classes: Sequence[str],
    feature_scale: float,
) -> None:
    """Write a model's file atomically: ``arrays`` and ``attrs`` of this type of model, and what all have."""
    import h5py

    attrs = {
        **attrs,
        "format_version": MODEL_FORMAT,
        "model_type": model_type,
        "layer": layer,
        "classes": json.dumps(list(classes)),
        "feature_scale": float(feature_scale),
    }
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name in sorted(arrays):
            file.create_dataset(name, data=arrays[name])
        for name in sorted(attrs):
            file.attrs[name] = attrs[name]
    atomic_write(path, buffer.getvalue())


@dataclass(frozen=True)
class ModelFile:
    """Content of a file of the type of model asked for, its values not yet checked.

    Each method checks what it returns. StageError naming the file and what is wrong with it; ``stage`` makes it anew.
    """

    path: Path
    stage: str
    arrays: Mapping[str, NDArray[Any]]
    attrs: Mapping[str, Any]

    def layer(self) -> str:
        """The layer whose features the model sees."""
        layer = self.attrs.get("layer")
        if not isinstance(layer, str) or not layer:
            raise self.bad("attribute 'layer' is missing or no text")
        return layer

    def classes(self) -> tuple[str, ...]:
        """The classes' names, at least one, in the order of the arrays' first axis."""
        try:
            classes = json.loads(self.attrs.get("classes", ""))
        except (TypeError, ValueError, RecursionError):
            classes = None
        if not isinstance(classes, list) or not classes or not all(isinstance(c, str) for c in classes):
            raise self.bad("attribute 'classes' is no JSON list of class names")
        return tuple(classes)

    def number(self, name: str) -> float:
        """Read an attribute that must be a finite number."""
        value = self.attrs.get(name)
        if not isinstance(value, float | np.floating) or not np.isfinite(value):
            raise self.bad(f"attribute '{name}' is missing or no finite number")
        return float(value)

    def array(self, name: str, dtype: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
        """Take an array that must have this type and shape, None being any length, and finite numbers."""
        array = self.arrays.get(name)
        if array is None:
            raise self.bad(f"array '{name}' is missing")
        fits = len(array.shape) == len(shape) and all(e in (None, a) for a, e in zip(array.shape, shape, strict=True))
        if not fits or array.dtype != np.dtype(dtype):
            expected = "x".join("any" if e is None else str(e) for e in shape)
            got = "x".join(map(str, array.shape))
            raise self.bad(f"array '{name}' is {array.dtype} {got}, expected {np.dtype(dtype)} {expected}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise self.bad(f"array '{name}' holds values that are not finite")
        return array

    def bad(self, problem: str) -> StageError:
        """Make the error to raise for a problem with the file."""
        return _bad(self.path, self.stage, problem)


def read_model_file(path: Path, model_type: str, known: Collection[str], stage: str) -> ModelFile:
    """Read all attributes, and the ``known`` arrays; links and data kept in other files are not followed.

    Raises:
        StageError: no such file, not readable, of another type of model or a newer version, or with other arrays.
    """
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
    if version > MODEL_FORMAT:
        raise StageError(
            f"{path}: written by a newer version (format {version}, this program reads up to {MODEL_FORMAT}); "
            "update the program"
        )
    if unknown := sorted(set(names) - set(known)):
        raise _bad(path, stage, f"unknown arrays {', '.join(unknown)}")
    return ModelFile(path, stage, arrays, attrs)


def _bad(path: Path, stage: str, problem: str) -> StageError:
    return StageError(f"{path}: {problem}; remove it and run `dvc repro -s -f {stage}`")
