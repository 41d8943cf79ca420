"""A user's run from photographs to scores: seconds per image and their split, and each stage's peak memory.

Some photographs of people, 500 px wide, go through every stage as ``rcnn run STAGE`` runs it, a process each:
selective search, AlexNet's fc7 (4,096) of up to 2,000 regions, SVM, box regression, detection. The network's weights
are random, which changes no time. The paper counts proposals and features: 13 s per image on a GPU, 53 s on a CPU
(section 2.2).
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import torch
import yaml

from benchmarks import harness
from benchmarks.harness import Figure
from benchmarks.project import ROOT, rcnn
from pipeline.timings import read_timings
from stages.common.networks import build
from stages.common.weights import save_weights

PHOTOS, WIDTH = 6, 500
STAGES = ("manifest", "proposals", "pretrain", "finetune", "features", "svm", "bbox", "detect", "combine", "evaluate")
PAPER_GPU_S, PAPER_CPU_S = 13, 53


def people(source: Path, folder: Path) -> Path:
    """A COCO dataset of the first photographs with a person, 500 px wide; returns its instances.json."""
    coco = json.loads((source / "instances.json").read_text(encoding="utf-8"))
    person = next(c for c in coco["categories"] if c["name"] == "person")
    objects = [a for a in coco["annotations"] if a["category_id"] == person["id"]]
    shown = {a["image_id"] for a in objects}
    images = [i for i in sorted(coco["images"], key=lambda i: i["file_name"]) if i["id"] in shown][:PHOTOS]
    factors = {}
    for image in images:
        pixels = harness.read_bgr(source / "images" / image["file_name"])
        factors[image["id"]] = factor = WIDTH / image["width"]
        smaller = cv2.resize(pixels, (WIDTH, round(image["height"] * factor)), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / image["file_name"]), smaller)
        image["height"], image["width"] = smaller.shape[:2]
    kept = [a for a in objects if a["image_id"] in factors]
    for annotation in kept:
        annotation["bbox"] = [side * factors[annotation["image_id"]] for side in annotation["bbox"]]
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": kept, "categories": [person]}), encoding="utf-8")
    return path


def params(weights: Path, device: str) -> dict[str, Any]:
    """The demo's parameters with the paper's network, given weights and no fine-tuning."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    found["dataset"] = "people"
    found["execution"]["device"] = device
    dtype = "bfloat16" if device == "cpu" else "float32"
    found["network"].update(name="alexnet", weights=str(weights), dtype=dtype, batch=16 if device == "cpu" else 256)
    found["finetune"]["iterations"] = 0
    found["features"].update(layers=["fc7"], context_px=16)
    found["svm"]["layer"] = found["bbox"]["layer"] = "fc7"
    return found


def timings(device: str, source: Path) -> dict[str, dict[str, Any]]:
    """Run the stages; what ``reports/timings.json`` says of each."""
    with tempfile.TemporaryDirectory() as name:
        project, weights = Path(name), Path(name) / "alexnet.safetensors"
        (project / "photographs").mkdir()
        shutil.copyfile(ROOT / "dvc.yaml", project / "dvc.yaml")
        save_weights(weights, build("alexnet", 1000, generator=torch.Generator().manual_seed(0)))
        (project / "params.yaml").write_text(yaml.safe_dump(params(weights, device)), encoding="utf-8")
        instances = people(source, project / "photographs")
        rcnn(project, "dataset", "import", "coco", str(instances), "--name", "people", "--on-error", "skip")
        for stage in STAGES:
            rcnn(project, "run", stage)
        return read_timings(project)


def figures(device: str) -> Iterator[Figure]:
    """Seconds per image, and the peaks."""
    source = harness.photographs()
    if source is None:
        yield Figure("seconds per image", "not measured: no photographs; set RCNN_PHOTOGRAPHS to a COCO folder")
        return
    found = timings(device, source)
    stages = ("proposals", "features", "detect")
    each = {stage: found[stage]["seconds"] / found[stage]["computed"] for stage in stages}
    regions = found["features"]["regions"] / found["features"]["computed"]
    paper = PAPER_CPU_S if device == "cpu" else PAPER_GPU_S
    yield Figure(
        f"proposals and AlexNet fc7 of a photograph {WIDTH} px wide, {regions:.0f} regions, disk to disk",
        f"{each['proposals'] + each['features']:.2f} s per image",
        f"the paper's machine, about 2,000 regions: {paper} s",
        note=", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in each.items()),
    )
    yield Figure(
        "peak memory of each stage's process, 4,096 values per region",
        ", ".join(f"{stage} {found[stage]['peak_rss_mb']:.0f} MiB" for stage in STAGES),
        note=f"{PHOTOS} photographs, {regions:.0f} regions each; a program with torch takes some 300",
    )


if __name__ == "__main__":
    harness.main(figures, ("cpu", "cuda"))
