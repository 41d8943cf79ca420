"""What each stage made on a tiny input, as a few numbers: to record them, and to compare with those recorded.

python -m tests.golden.results PROJECT      records what the finished tiny PROJECT holds (see CONTRIBUTING.md)
"""

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from cache import Artifact, Store
from stages.contract import Node
from stages.graph import KINDS, ROOT, at, root_nodes

RECORDED = Path(__file__).with_name("results.json")
_SHOWN = 6  # values kept of an array, evenly spread, beside its mean and deviation
# Trainings add up what processors round differently; the rest differs in last bits only.
TOLERANCE = {
    "pretrain": 2e-2,
    "finetune": 2e-2,
    "features": 2e-2,
    "svm": 5e-2,
    "bbox": 5e-2,
    "detect": 5e-2,
    "evaluate": 5e-2,
}
EXACT = 1e-6
# Detectors beside the root's, by their kind; of each the nodes whose stages the root has not.
DETECTORS = {"plain": "fast", "steps": "faster", "once": "joint"}
_ROOTS = {one.stage.name for one in KINDS[ROOT].places}
NODES = {
    name: [at(one, name) for one in KINDS[kind].places if one.stage.name not in _ROOTS]
    for name, kind in DETECTORS.items()
}
TOLERANCE |= {f"{name}.{node.name}": 5e-2 for name, nodes in NODES.items() for node in nodes}


def recorded_nodes() -> dict[str, Node]:
    """Return the nodes whose results are recorded, by name; those of other detectors than the root's as ``NAME.NODE``."""
    others = {f"{name}.{node.name}": node for name, nodes in NODES.items() for node in nodes}
    return {**root_nodes(), **others}


def summary_of(array: NDArray[Any]) -> dict[str, Any]:
    """Describe an array: its shape, mean, deviation and some of its values."""
    values = array.reshape(-1).astype(np.float64)
    at = np.linspace(0, max(len(values) - 1, 0), min(_SHOWN, len(values))).astype(int)
    return {
        "shape": list(array.shape),
        "mean": float(values.mean()) if len(values) else 0.0,
        "deviation": float(values.std()) if len(values) else 0.0,
        "values": [float(v) for v in values[at]],
    }


def results_of(project: Path) -> dict[str, Any]:
    """Summarise the outputs of every stage of a finished project, with the stage's version."""
    store, found = Store(project / "artifacts"), {}
    for name, node in recorded_nodes().items():
        outputs = {output: project / path for output, path in node.outputs.items() if output != "trained"}
        if not all(path.exists() for path in outputs.values()):
            continue
        parts = {output: part for output, path in outputs.items() if (part := _part(path, store)) is not None}
        found[name] = {"version": node.version, "outputs": parts}
    return found


def _part(path: Path, store: Store) -> Any:
    """Summarise one output; None for what shows times or is made from others alone (the page)."""
    if path.is_dir():
        return _folder(path)
    summaries: dict[str, Callable[[], Any]] = {
        ".safetensors": lambda: {name: summary_of(tensor) for name, tensor in sorted(load_file(path).items())},
        ".h5": lambda: _model(path),
        ".csv": lambda: _table(path),
        "scores.json": lambda: _scores(path),
        "manifest.json": lambda: _objects(path, store),
    }
    made = summaries.get(path.name) or summaries.get(path.suffix)
    return None if made is None else made()


def _folder(path: Path) -> Any:
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.suffix in {".jpg", ".txt"})
    return {"files": len(files)}


def _model(path: Path) -> Any:
    with h5py.File(path) as file:
        return {name: summary_of(file[name][()]) for name in sorted(file) if file[name].dtype.kind == "f"}


def _table(path: Path) -> Any:
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    return {"columns": rows[0]}


def _scores(path: Path) -> Any:
    scores = json.loads(path.read_text())
    return {"mAP": scores["voc2010"]["mAP"], "AP": scores["coco"]["AP"]}


def _objects(path: Path, store: Store) -> Any:
    """Summarise the first and the last object of a list, or the images and boxes of the dataset manifest."""
    document = json.loads(path.read_text())
    if "annotations" in document:
        boxes = np.array([one["bbox"] for one in document["annotations"]])
        return {"images": len(document["images"]), "boxes": summary_of(boxes)}
    artifact = Artifact.read(path)
    keys = [key for _, key in artifact.entries]
    parts: dict[str, Any] = {"objects": len(keys)}
    for which, key in (("first", keys[0]), ("last", keys[-1])) if keys else ():
        arrays = store.get(artifact.stage, key).arrays
        parts[which] = {name: summary_of(array) for name, array in sorted(arrays.items()) if array.dtype.kind in "fiub"}
    return parts


def differences(here: Any, recorded: Any, tolerance: float, where: str = "") -> list[str]:
    """Name each place in which two results differ by more than ``tolerance`` of the array's deviation."""
    if isinstance(recorded, Mapping) and isinstance(here, Mapping):
        lines = [
            f"{where}.{name}: only {'here' if name in here else 'recorded'}" for name in here.keys() ^ recorded.keys()
        ]
        scale = max(abs(recorded.get("deviation", 1.0)), abs(recorded.get("mean", 0.0)), 1e-3)
        for name in sorted(here.keys() & recorded.keys()):
            own = tolerance * scale if "deviation" in recorded else tolerance
            lines += differences(here[name], recorded[name], own, f"{where}.{name}")
        return lines
    if isinstance(recorded, list) and isinstance(here, list) and len(here) == len(recorded):
        pairs = enumerate(zip(here, recorded, strict=True))
        return [line for i, (a, b) in pairs for line in differences(a, b, tolerance, f"{where}[{i}]")]
    if isinstance(recorded, int | float) and isinstance(here, int | float):
        return [] if abs(here - recorded) <= tolerance else [f"{where}: {here!r}, recorded {recorded!r}"]
    return [] if here == recorded else [f"{where}: {here!r}, recorded {recorded!r}"]
