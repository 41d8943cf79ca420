"""What each stage made on a tiny input, as a few numbers: to record them, and to compare with those recorded."""

import csv
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file

from cache import Artifact, Store
from stages.graph import ANALYSIS, KINDS, STAGES, at, place, root_nodes

RECORDED = Path(__file__).with_name("results.json")
# The tiny project's detectors beside R-CNN: of kind combined, faster, joint and overfeat.
JOINED, IN_STEPS, AT_ONCE, DENSE = "joined", "steps", "once", "dense"
# The node of the second that stands for each of its stages.
_SHARED = {"rpn": "rpn_1", "propose": "propose_1", "fast": "fast_1", "maps": "maps", "roi_detect": "roi_detect"}
_DENSE = {name: name for name in ("finetune_dense", "regress", "slide", "merge", "localisation")} | {
    "dense_maps": "maps"
}
# Their objects' arrays come by score, and scores of a network hardly trained are nearly one: only of what does not
# depend on the order is something kept.
_CANDIDATES = {"candidates.bbox", "candidates.scores"}
_BY_SCORE = {"propose": {"boxes", "scores"}, "roi_detect": _CANDIDATES, "merge": _CANDIDATES, "paste": {"scores"}}
_SHOWN = 6  # values kept of an array, evenly spread, beside its mean and deviation
# Trainings add up what processors round differently, pictures are coded by libraries of several versions; the rest
# differs in last bits only. Of the pictures that classification tests one or two may fall on the other side.
TOLERANCE = {
    "scenes": 5e-2,
    "pretrain": 2e-2,
    "finetune": 2e-2,
    "features": 2e-2,
    "svm": 5e-2,
    "bbox": 5e-2,
    "detect": 5e-2,
    "combine": 5e-2,
    "evaluate": 5e-2,
    "classify": 0.15,
    "classify_svm": 0.15,
    "compare": 5e-2,
    "diagnose": 5e-2,
    "units": 5e-2,
    "rpn": 2e-2,
    "propose": 5e-2,
    "fast": 2e-2,
    "maps": 5e-2,
    "joint": 2e-2,
    "dense_maps": 5e-2,
    "finetune_dense": 2e-2,
    "regress": 2e-2,
    "slide": 5e-2,
    "merge": 5e-2,
    "localisation": 5e-2,
    "roi_detect": 5e-2,
    "region_features": 2e-2,
    "svr": 5e-2,
    "paste": 0.15,
    "segment_evaluate": 0.15,
}
EXACT = 1e-6
_KINDS = ((IN_STEPS, "faster"), (AT_ONCE, "joint"), (DENSE, "overfeat"))


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


def results_of(detectors: Path, pictures: Path) -> dict[str, Any]:
    """Summarise the outputs of every stage of the two finished projects, with the stage's version."""
    joined = {one.name: at(one, JOINED) for one in KINDS["combined"].places}
    steps, once, dense = ({one.name: at(one, name) for one in KINDS[kind].places} for name, kind in _KINDS)
    nodes = dict(root_nodes()) | {"combine": joined["combine"], "compare": at(place(STAGES["compare"]))}
    nodes |= {one.name: at(one) for one in ANALYSIS}
    nodes |= {stage: steps[node] for stage, node in _SHARED.items()} | {"joint": once["joint"]}
    nodes |= {stage: dense[node] for stage, node in _DENSE.items()}
    found = {}
    for name, stage in STAGES.items():
        project = pictures if name in {"classify", "classify_svm"} else detectors
        store = Store(project / "artifacts")
        outputs = {output: project / path for output, path in nodes[name].outputs.items() if output != "trained"}
        parts = {output: part for output, path in outputs.items() if (part := _part(path, store)) is not None}
        found[name] = {"version": stage.version, "outputs": parts}
    return found


def _part(path: Path, store: Store) -> Any:
    """Summarise one output; None for one that holds nothing else than others do."""
    if path.is_dir() and path.name == "maps":  # which of two near regions is pasted may depend on the processor
        return {"files": len(list(path.rglob("*.png")))}
    if path.is_dir():
        lists = {file.stem: _objects(file, store) for file in sorted(path.glob("*.json")) if path.name == "dense"}
        return lists or _folder(path)
    summaries: dict[str, Callable[[], Any]] = {
        ".safetensors": lambda: {name: summary_of(tensor) for name, tensor in sorted(load_file(path).items())},
        ".h5": lambda: _model(path),
        ".csv": lambda: _table(path),
        "scores.json": lambda: _scores(path),
        "classification.json": lambda: _shares(json.loads(path.read_text())),
        "classification_svm.json": lambda: _shares(json.loads(path.read_text())),
        "segmentation.json": lambda: _segmentation(path),
        "localisation.json": lambda: _shares(json.loads(path.read_text())),
        "comparison.json": lambda: _comparison(path),
        "diagnosis.json": lambda: _diagnosis(path),
        "units.html": lambda: _units(path),
        ".html": lambda: _page(path),
        "manifest.json": lambda: _objects(path, store),
    }
    made = summaries.get(path.name) or summaries.get(path.suffix)
    return None if made is None else made()


def _folder(path: Path) -> Any:
    """Count a folder's pictures and lists; summarise its first and last picture, last masks, and classification set."""
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.suffix in {".jpg", ".txt"})
    pictures = [file for file in files if file.suffix == ".jpg"]
    ends = {"first": pictures[0], "last": pictures[-1]} if pictures else {}
    parts: dict[str, Any] = {"files": len(files)}
    parts |= {which: summary_of(np.asarray(Image.open(file))) for which, file in ends.items()}
    if masks := sorted(path.glob("SegmentationObject/*.png")):
        last = [masks[-1], path / "SegmentationClass" / masks[-1].name]
        parts |= {file.parent.name: summary_of(np.asarray(Image.open(file))) for file in last}
    if (classification := path / "classification.npz").exists():
        with np.load(classification) as arrays:
            numbers = [name for name in sorted(arrays) if arrays[name].dtype.kind in "biu"]
            parts |= {name: summary_of(arrays[name]) for name in numbers}
    return parts


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


def _shares(report: Any) -> Any:
    """Return a report's figures, which are in per cent, as parts of 1; whole numbers and words as they are."""
    if isinstance(report, dict):
        return {name: _shares(value) for name, value in report.items()}
    return report / 100 if isinstance(report, float) else report


def _segmentation(path: Path) -> Any:
    """Return the figures that hang together with the pixels, and not on which of two near regions is pasted."""
    report = json.loads(path.read_text())
    return {name: report[name] for name in ("mean_iou", "oracle", "references", "images", "features", "layer")}


def _comparison(path: Path) -> Any:
    figures = json.loads(path.read_text())
    kept = ("voc2007", "voc2010", "coco", "difference")
    detectors = {
        name: {one: figure[one] for one in kept if one in figure} for name, figure in figures["detectors"].items()
    }
    return {"classes": figures["classes"], "protocol": figures["protocol"], "detectors": detectors}


def _diagnosis(path: Path) -> Any:
    """Return the scores, the protocol and what is known of the objects; counts of mistakes turn on single boxes."""
    figures = json.loads(path.read_text())
    kept = ("voc2007", "voc2010", "normalised")
    sets = {
        name: {one: figures[name][one] for one in kept} | {"characteristics": sorted(figures[name]["means"])}
        for name in ("bbox", "no_bbox")
    }
    return {"protocol": figures["protocol"], **sets}


def _units(path: Path) -> Any:
    """Return a page's units, silent ones, and the activations on it, unit by unit, best first."""
    text = path.read_text()
    activations = [float(value) for value in re.findall(r' title="[^"]*, row \d+: ([^"]+)"', text)]
    silent = re.search(r"(\d+) of \d+ units are positive for no region", text)
    return {
        **_page(path),
        "units": text.count('class="unit"'),
        "silent": int(silent[1]) if silent else 0,
        "activations": summary_of(np.array(activations)),
    }


def _page(path: Path) -> Any:
    """Name the sections of a page; its figures are other outputs'."""
    return {"sections": re.findall(r"<h2>(.*?)</h2>", path.read_text())}


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
        kept = _BY_SCORE.get(artifact.stage, set(arrays))
        summaries = {n: summary_of(a) for n, a in sorted(arrays.items()) if a.dtype.kind in "fiub" and n in kept}
        if artifact.stage in _BY_SCORE:
            summaries = {name: {k: v for k, v in one.items() if k != "values"} for name, one in summaries.items()}
        parts[which] = summaries
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
