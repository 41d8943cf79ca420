"""A project of photographs of people, 500 px wide, for the stages from proposals on: AlexNet's fc7, nothing fine-tuned.

The network's weights are random, which changes no time.
"""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import torch
import yaml

from benchmarks import harness
from benchmarks.project import ROOT, default_params, rcnn
from manifests.readers.build import drawn_split
from stages.networks.network import build
from stages.networks.weights import save_weights

WIDTH = 500


def make_photo_project(
    project: Path, source: Path, count: int, device: str, *, max_proposals: int = 2000, width_px: int = WIDTH
) -> None:
    """Write parameters and weights, and import ``count`` photographs from ``source`` (``harness.photographs``)."""
    weights = project / "alexnet.safetensors"
    (project / "photographs").mkdir()
    shutil.copyfile(ROOT / "dvc.yaml", project / "dvc.yaml")
    save_weights(weights, build("alexnet", 1000, generator=torch.Generator().manual_seed(0)))
    params = _params(weights, device)
    params["proposals"]["max_proposals"] = max_proposals
    (project / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    instances = _people(source, project / "photographs", count, width_px)
    names = [image["file_name"] for image in json.loads(instances.read_text(encoding="utf-8"))["images"]]
    shares = {"train": 0.8, "test": 0.2}
    seed = next(s for s in itertools.count() if {drawn_split(name, s, shares) for name in names} == set(shares))
    options = ["--name", "people", "--on-error", "skip", "--test-fraction", "0.2", "--seed", str(seed)]
    rcnn(project, "dataset", "import", "coco", str(instances), *options)


def _people(source: Path, folder: Path, count: int, width_px: int) -> Path:
    """A COCO dataset of the first ``count`` photographs with a person, so wide; returns its instances.json."""
    coco = json.loads((source / "instances.json").read_text(encoding="utf-8"))
    person = next(c for c in coco["categories"] if c["name"] == "person")
    objects = [a for a in coco["annotations"] if a["category_id"] == person["id"]]
    shown = {a["image_id"] for a in objects}
    images = [i for i in sorted(coco["images"], key=lambda i: i["file_name"]) if i["id"] in shown][:count]
    factors = {}
    for image in images:
        pixels = harness.read_bgr(source / "images" / image["file_name"])
        factors[image["id"]] = factor = width_px / image["width"]
        smaller = cv2.resize(pixels, (width_px, round(image["height"] * factor)), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / image["file_name"]), smaller)
        image["height"], image["width"] = smaller.shape[:2]
    kept = [a for a in objects if a["image_id"] in factors]
    for annotation in kept:
        annotation["bbox"] = [side * factors[annotation["image_id"]] for side in annotation["bbox"]]
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": kept, "categories": [person]}), encoding="utf-8")
    return path


def _params(weights: Path, device: str) -> dict[str, Any]:
    """The paper's network, given weights and no fine-tuning."""
    found = default_params()
    found["dataset"] = "people"
    found["execution"]["device"] = device
    dtype = "bfloat16" if device == "cpu" else "float32"
    found["network"].update(name="alexnet", weights=str(weights), dtype=dtype, batch=16 if device == "cpu" else 256)
    found["finetune"]["iterations"] = 0
    found["features"].update(layers=["fc7"], context_px=16)
    found["svm"]["layer"] = found["bbox"]["layer"] = "fc7"
    return found
