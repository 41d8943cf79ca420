"""R-CNN on a made-up tree of ILSVRC's detection data, in both layouts: from its files to what its devkit takes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml
from ilsvrc_tree import LAYOUTS, Shown, Tree, write_tree

from cache import Artifact, Store
from manifests import ImageRecord, load_dataset
from manifests.scenes.dataset import write_scenes
from manifests.scenes.options import CLASSES, SceneOptions

Rcnn = Callable[..., "CompletedProcess[str]"]
STAGES = ("manifest", "proposals", "pretrain", "finetune", "features", "svm", "bbox", "detect", "combine", "evaluate")
KINDS = ("one", "seven", "nine")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve small scenes, and pictures to pre-train on."""
    folder = tmp_path_factory.mktemp("scenes")
    sizes = {"width_px": 160, "height_px": 120, "object_min_px": 24, "object_max_px": 60}
    counts = {"objects_min": 5, "objects_max": 6, "n_train": 8, "n_test": 4}
    write_scenes(folder, SceneOptions(classification_train=40, classification_val=20, **sizes, **counts))
    return folder


def shown(folder: Path, record: ImageRecord, classes: tuple[str, ...]) -> Shown:
    objects = [
        (CLASSES[label], (box[0] + 1, box[1] + 1, box[2], box[3]))
        for label, box in zip(record.labels.tolist(), record.boxes.tolist(), strict=True)
        if CLASSES[label] in classes
    ]
    return Shown((folder / record.file_name).read_bytes(), objects, record.width, record.height)


def tree_of(folder: Path) -> Tree:
    """Four scenes as train, each annotated for one class or two; four as val1, four as val2, which has a blacklist."""
    data = load_dataset(folder / "manifest.json")
    train, val1, val2 = data.split("train")[:4], data.split("train")[4:], data.split("test")
    pictures = {
        "train": {
            f"n1_{record.name}": shown(folder, record, KINDS[i % 3 : i % 3 + 1]) for i, record in enumerate(train)
        },
        "val": {record.name: shown(folder, record, KINDS) for record in (*val1, *val2)},
    }
    flags: dict[str, dict[str, int]] = {}
    for name, one in pictures["train"].items():
        for label, _ in one.objects or ():
            flags.setdefault(label, {})[name] = 1
    lists = {"val1": [record.name for record in val1], "val2": [record.name for record in val2]}
    number = KINDS.index(CLASSES[next(i for i in val2[0].labels.tolist() if CLASSES[i] in KINDS)]) + 1
    return Tree(KINDS, pictures, flags, lists, f"5 n{number:08d}\n")


def params(put: Callable[[Path, dict[str, Any]], None], project: Path) -> None:
    values = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    values["dataset"] = "il"
    values["manifest"].update(train=["val1", "train"], test="val2", train_limit=100)
    values["proposals"].update(max_proposals=30, k=[100])
    values["pretrain"].update(iterations=4, batch=8, eval_every=2, checkpoint_every=2)
    values["finetune"].update(iterations=4, eval_every=2, checkpoint_every=2, fg_per_batch=4, bg_per_batch=12)
    values["svm"]["mine_images"] = 3
    values["bbox"]["images"] = "val1"
    values["evaluate"].update(n_bootstrap=5, ilsvrc=True)
    values["execution"].update(workers=2, device="cpu")
    put(project, values)


@pytest.mark.slow
def test_both_layouts_give_the_same(
    scenes: Path, run_rcnn: Rcnn, put_params: Callable[[Path, dict[str, Any]], None], tmp_path: Path
) -> None:
    metrics = {}
    for layout in LAYOUTS:
        project, root = tmp_path / layout, write_tree(tmp_path / f"tree{layout}", layout, tree_of(scenes))
        project.mkdir()
        params(put_params, project)
        run_rcnn(project, "dataset", "import", "ilsvrc", str(root), "--name", "il")
        shutil.copy(scenes / "classification.npz", project / "artifacts/datasets/il")
        said = run_rcnn(project, "run", *STAGES).stderr
        assert "train images are annotated in part" in said
        metrics[layout] = json.loads((project / "reports/metrics.json").read_text())
        in_part_have_objects_alone(project)
        as_the_devkit_takes_it(project, root, layout, run_rcnn)
    assert metrics["2013"] == metrics["2014"]
    assert set(metrics["2013"]["ilsvrc"]) == {"mAP", "median"}


def in_part_have_objects_alone(project: Path) -> None:
    dataset = load_dataset(project / "artifacts/manifest/manifest.json")
    partial = [record for record in dataset.split("train") if not record.exhaustive]
    assert len(partial) >= 2 and len(dataset.split("train")) == len(partial) + 4
    assert any(record.unscored for record in dataset.split("test"))
    lists = {name: Artifact.read(project / f"artifacts/{name}/manifest.json") for name in ("proposals", "features")}
    assert not lists["proposals"].keys.keys() & {record.id for record in partial}
    store = Store(project / "artifacts")
    for record in partial:
        assert store.get("features", lists["features"].keys[record.id], ["is_gt"]).arrays["is_gt"].all()


def as_the_devkit_takes_it(project: Path, root: Path, layout: str, run_rcnn: Rcnn) -> None:
    """Detections have the numbers of val.txt, the classes' ids, and are those of COCO's results."""
    lists = "ILSVRC2013_devkit/data/det_lists" if layout == "2013" else "ImageSets/DET"
    run_rcnn(project, "detections", "save", "mine", "--format", "ilsvrc", "--list", str(root / lists / "val.txt"))
    lines = [line.split() for line in (project / "reports/mine.txt").read_text().splitlines()]
    expected = json.loads((project / "reports/results/coco_bbox.json").read_text())
    assert len(lines) == len(expected) > 0
    assert {int(line[0]) for line in lines} <= {5, 6, 7, 8} and {int(line[1]) for line in lines} <= {1, 2, 3}
    for line, entry in zip(lines, expected, strict=True):
        x, y, w, h = entry["bbox"]
        theirs = [entry["category_id"], entry["score"], x + 1, y + 1, x + w, y + h]
        assert [float(v) for v in line[1:]] == pytest.approx(theirs, abs=0.006)
