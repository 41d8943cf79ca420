"""Run the tiny projects and record what each stage made of them: ``python -m tests.golden.record``.

``params.yaml`` beside this file is the one project: the built-in dataset through R-CNN and segmentation, detections
made up and imported, the two joined, and compared, Faster R-CNN in four steps and at once, and OverFeat. The other is
its variant with class folders, for classification.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from stages.graph import HEAD, KINDS, SEGMENTATION
from tests.golden.results import AT_ONCE, DENSE, IN_STEPS, JOINED, RECORDED, results_of

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))  # where no conftest.py has

from warm_rcnn import served

ROOT = Path(__file__).parents[2]
_PARAMS = Path(__file__).with_name("params.yaml")
_STEPS = ("pretrain", "rpn_1", "propose_1", "fast_1", "maps", "rpn_2", "propose_2", "fast_2", "roi_detect")
_DENSE_NODES = ("pretrain", "maps", "finetune_dense", "regress", "slide", "merge", "localisation")
_TRAINED = {"iterations": 4, "step": 3, "eval_every": 2}
# Nothing is suppressed: which of two boxes of nearly one score stays would depend on the processor.
_SHORT: dict[str, dict[str, Any]] = {
    "maps": {"short_px": 96, "long_px": 160, "scales_px": [88, 120]},
    "rpn": {"scales_px": [24, 48], "border_px": 8, "channels": 16},
    "propose": {"min_side_px": 4, "nms_iou": None, "after_nms": 10_000, "train_after_nms": 10_000},
    "fast": {"rois_per_image": 16},
    "joint": {},
    "finetune_dense": {"background_pool": 40, "mirror": False},
    "regress": {"batch": 16, "units": [24, 16], "mirror": False},
    "merge": {"t": 0.5, "score_floor": 0.0, "max_windows": 20},
    "roi_detect": {"score_floor": 0.0, "nms_iou": 1.0, "max_per_image": None},
}
_CLASSES = ("ant", "bee", "cow", "dog")
# So that sums have one order on every x86-64 processor: one thread, and no instructions that only some have. A training
# blows up what they round differently: a tenth of an array's spread after twelve iterations.
PINNED = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1") | {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NUMBA_CPU_NAME": "haswell",
}
_Commands = Callable[..., None]


def run_tiny(folder: Path, rcnn: Path) -> dict[str, Any]:
    """Run every stage by ``rcnn``, on one thread, in an empty folder.

    Returns what :func:`~tests.golden.results.results_of` tells of them.
    """

    def commands(project: Path, *lines: list[str]) -> None:
        for line in lines:
            command = [str(rcnn), "-C", str(project), *line]
            environment = os.environ | PINNED  # some libraries read theirs only when they first compute
            done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr)

    detectors = _run_detectors(folder / "detectors", commands)
    return results_of(detectors, _run_pictures(folder / "pictures", commands))


def _run_detectors(project: Path, commands: _Commands) -> Path:
    project.mkdir()
    shutil.copyfile(_PARAMS, project / "params.yaml")
    commands(project, ["run", *(one.name for one in (*HEAD, *KINDS["rcnn"].places, *SEGMENTATION))])
    results = project / "theirs.json"
    results.write_text(json.dumps(_made_up(project)))
    commands(
        project,
        ["detections", "import", "coco", str(results), "--name", "theirs", "--scores", "svm"],
        ["detector", "add", JOINED, "--kind", "combined", "--of", "rcnn,theirs"],
        ["-d", JOINED, "run", "combine"],
        ["compare", "rcnn", JOINED],
        ["run", "diagnose", "units"],
        ["detector", "add", IN_STEPS, "--kind", "faster"],
        ["detector", "add", AT_ONCE, "--kind", "joint"],
        ["detector", "add", DENSE, "--kind", "overfeat"],
    )
    for name, nodes in ((IN_STEPS, _STEPS), (AT_ONCE, ("pretrain", "joint")), (DENSE, _DENSE_NODES)):
        path = project / "detectors" / name / "params.yaml"
        document = yaml.safe_load(path.read_text()) | {"pretrain": yaml.safe_load(_PARAMS.read_text())["pretrain"]}
        for group in document.keys() & _SHORT.keys():
            known = _SHORT[group] | (_TRAINED if "iterations" in document[group] else {})
            document[group] |= {key: value for key, value in known.items() if key in document[group]}
        path.write_text(yaml.safe_dump(document))
        commands(project, ["-d", name, "run", *nodes])
    return project


def _made_up(project: Path) -> list[dict[str, Any]]:
    """Make another program's detections: the test objects, each moved by up to a fifth of its side and scored."""
    rng = np.random.default_rng(4)
    manifest = json.loads((project / "artifacts/manifest/manifest.json").read_text())
    tested = {image["id"]: image for image in manifest["images"] if image["split"] == "test"}
    found = []
    for one in manifest["annotations"]:
        if image := tested.get(one["image_id"]):
            (x, y, w, h), (dx, dy, score) = one["bbox"], rng.uniform(-0.2, 0.2, 3)
            x, y = min(max(x + dx * w, 0), image["width"] - w), min(max(y + dy * h, 0), image["height"] - h)
            found.append({**{name: one[name] for name in ("image_id", "category_id")}, "bbox": [x, y, w, h]})
            found[-1]["score"] = float(score)
    return found


def _run_pictures(project: Path, commands: _Commands) -> Path:
    project.mkdir()
    params = yaml.safe_load(_PARAMS.read_text()) | {"dataset": "pictures"}
    params["classify_svm"]["layers"] = ["pool5", "fc7"]
    params["classify"] |= {"views": ["1_crop", "10_crops", "dense_coarse", "dense_fine"], "scales_px": [72, 104]}
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    rng = np.random.default_rng(5)
    for i in range(48):
        file = project / "own" / ("test" if i % 3 == 0 else "train") / _CLASSES[i % 4] / f"{i}.bmp"
        file.parent.mkdir(parents=True, exist_ok=True)
        blobs = rng.integers(0, 120, (4, 5, 3), np.uint8)
        blobs[..., i % 3] += np.uint8(i % 4 * 45)  # classes have something of their own
        Image.fromarray(blobs).resize((80 - i // 2, 66 + i // 3), Image.Resampling.NEAREST).save(file)
    commands(
        project,
        ["dataset", "import", "folders", str(project / "own"), "--name", "pictures"],
        ["run", "manifest", "pretrain", "classify", "classify_svm"],
    )
    return project


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name, served(Path(name, "bin", "rcnn"), **PINNED) as program:
        RECORDED.write_text(json.dumps(run_tiny(Path(name), program), indent=1) + "\n", encoding="utf-8")
