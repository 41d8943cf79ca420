"""What it gains to say that images are annotated in part: the same pictures and boxes with the flag and without.

    python -m benchmarks.in_part PROJECT --seeds 1 2 3

PROJECT has run on the built-in dataset (``make demo``): its pictures and its pre-trained network are taken, its files
left alone. Each seed draws images to train and to test on, and of half of the former keeps one object in three; these
are imported twice, with ``--in-part part`` (on) and as if nothing were missing (off), and R-CNN is trained on both
without fine-tuning, at most 120 proposals an image. Prints VOC 2010 mAP in percent: a line a seed, then the mean gain.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.project import ROOT, rcnn
from manifests import Dataset, ImageRecord, ImageSource, load_registered

_STAGES = ("manifest", "proposals", "pretrain", "finetune", "features", "svm", "bbox", "detect", "combine", "evaluate")
_PROPOSALS = 120
Kept = dict[str, list[tuple[ImageRecord, list[int]]]]  # by split: images, and the rows of the boxes that are annotated


def drawn(dataset: Dataset, images: int, rng: np.random.Generator, *, one_in: int = 3) -> Kept:
    """Draw ``images`` of each split; of half of those to train on keep one object in ``one_in``, at least one each.

    ``whole`` and ``part`` are trained on, ``test`` is tested on.
    """

    def some(split: str) -> list[ImageRecord]:
        those = [image for image in dataset.split(split) if len(image.boxes)]
        return [those[i] for i in np.sort(rng.permutation(len(those))[:images]).tolist()]

    trained, half = some("train"), images // 2
    partial = []
    for image in trained[half:]:
        n = len(image.boxes)
        kept = rng.permutation(n)[: max(1, round(n / one_in))]
        partial.append((image, sorted(kept.tolist())))
    return {
        "whole": [(image, list(range(len(image.boxes)))) for image in trained[:half]],
        "part": partial,
        "test": [(image, list(range(len(image.boxes)))) for image in some("test")],
    }


def coco_of(dataset: Dataset, images: Sequence[tuple[ImageRecord, list[int]]]) -> dict[str, Any]:
    """Make COCO's document of some images with the boxes of these rows."""
    annotations: list[dict[str, Any]] = []
    for image, rows in images:
        for row in rows:
            x1, y1, x2, y2 = image.boxes[row].tolist()
            box = [x1, y1, x2 - x1, y2 - y1]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image.id,
                    "category_id": dataset.category_ids[int(image.labels[row])],
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(image.crowd[row]),
                }
            )
    pictures = [
        {"id": image.id, "file_name": image.file_name, "width": image.width, "height": image.height}
        for image, _ in images
    ]
    named = zip(dataset.category_ids, dataset.classes, strict=True)
    categories = [{"id": number, "name": name} for number, name in named]
    return {"images": pictures, "annotations": annotations, "categories": categories}


def measured(project: Path, folder: Path, dataset: Dataset, root: Path, kept: Kept) -> dict[str, float]:
    """Train and test on the drawn images with the flag and without, in ``folder``; VOC 2010 mAP of each, of 1."""
    annotations = folder / "annotations"
    annotations.mkdir()
    for split, images in kept.items():
        text = json.dumps(coco_of(dataset, images))
        (annotations / f"instances_{split}.json").write_text(text, encoding="utf-8")
    params = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    params["network"]["weights"] = str((project / "artifacts/pretrain/weights.safetensors").absolute())
    params["manifest"].update(train=["whole", "part"], test="test", classes=None, drop_duplicates=None)
    params["proposals"]["max_proposals"] = _PROPOSALS
    params["finetune"]["iterations"] = 0
    params["store"]["root"] = "artifacts"
    shutil.copyfile(ROOT / "dvc.yaml", folder / "dvc.yaml")
    found = {}
    for flag, options in (("on", ["--in-part", "part"]), ("off", [])):
        (folder / "params.yaml").write_text(yaml.safe_dump({**params, "dataset": flag}), encoding="utf-8")
        rcnn(folder, "dataset", "import", "coco", str(folder), "--images", str(root), "--name", flag, *options)
        rcnn(folder, "run", *_STAGES)
        report = json.loads((folder / "reports/metrics.json").read_text(encoding="utf-8"))
        found[flag] = float(report["voc2010"]["mAP"])
    return found


def main() -> None:
    """Measure with every seed and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--images", type=int, default=30, help="to train on, and as many to test on")
    asked = parser.parse_args()
    dataset = load_registered("scenes", asked.project / "artifacts").dataset
    root = ImageSource.registered(asked.project / "artifacts/datasets/scenes").root
    gains = []
    print("| seed | objects annotated, of | on | off |\n| --- | --- | --- | --- |")
    for seed in asked.seeds:
        kept = drawn(dataset, asked.images, np.random.default_rng(seed))
        trained = [*kept["whole"], *kept["part"]]
        annotated, every = sum(len(rows) for _, rows in trained), sum(len(image.boxes) for image, _ in trained)
        with tempfile.TemporaryDirectory() as folder:
            found = measured(asked.project, Path(folder), dataset, root, kept)
        gains.append(found["on"] - found["off"])
        print(f"| {seed} | {annotated}, {every} | {100 * found['on']:.1f} | {100 * found['off']:.1f} |", flush=True)
    print(f"mean gain of the flag: {100 * sum(gains) / len(gains):+.1f}")


if __name__ == "__main__":
    main()
