"""A test split that nobody has annotated, from the files as COCO has them to the files that its server takes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml

Rcnn = Callable[..., "CompletedProcess[str]"]
STAGES = ("manifest", "proposals", "pretrain", "finetune", "features", "svm", "bbox", "detect", "combine", "evaluate")


def as_coco(project: Path, folder: Path) -> dict[int, int]:
    """Write the built-in dataset as COCO writes its own: objects of train only; returns the new test image ids by old.

    A test image gets another id, so that what is written under it can only come from the file.
    """
    document = json.loads((project / "artifacts/datasets/scenes/manifest.json").read_text())
    source = project / "artifacts/datasets/scenes"
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    for image in document["images"]:
        rows[image["split"]].append({key: image[key] for key in ("id", "file_name", "width", "height")})
        file = folder / f"{image['split']}2017" / image["file_name"]
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / image["file_name"], file)
    kept = {image["id"] for image in rows["train"]}
    objects = [one for one in document["annotations"] if one["image_id"] in kept]
    renumbered = {image["id"]: image["id"] + 1000 for image in rows["test"]}
    tested = [image | {"id": renumbered[image["id"]]} for image in rows["test"]]
    files = {
        "instances_train2017.json": {"images": rows["train"], "annotations": objects},
        "image_info_test2017.json": {"images": tested},
    }
    (folder / "annotations").mkdir()
    for name, content in files.items():
        (folder / "annotations" / name).write_text(json.dumps(content | {"categories": document["categories"]}))
    return renumbered


@pytest.mark.slow
def test_the_results_are_those_of_the_same_pictures_with_annotations(project: Path, run_rcnn: Rcnn) -> None:
    """What is found in a picture does not depend on its annotation, so an annotated run's files are expected."""
    before = {file.name: file.read_text() for file in (project / "reports/results").glob("comp4_*.txt")}
    found = json.loads((project / "reports/results/coco_bbox.json").read_text())
    renumbered = as_coco(project, project.parent / "coco")
    said = run_rcnn(project, "dataset", "import", "coco", str(project.parent / "coco"), "--name", "bare").stderr
    assert "none of" not in said  # without the option the file is not looked for
    given = ("--name", "bare", "--unannotated", "test")
    said = run_rcnn(project, "dataset", "import", "coco", str(project.parent / "coco"), *given).stderr
    assert "split test: its 5 images are taken as nobody's having annotated them" in said
    shutil.copy(project / "artifacts/datasets/scenes/classification.npz", project / "artifacts/datasets/bare")
    params = yaml.safe_load((project / "params.yaml").read_text())
    (project / "params.yaml").write_text(yaml.safe_dump(params | {"dataset": "bare"}))
    shutil.rmtree(project / "reports")
    said = run_rcnn(project, "run", *STAGES).stderr
    assert "no object of the 5 test images is annotated, so nothing is scored" in said
    assert len(before) == 10
    assert {file.name: file.read_text() for file in (project / "reports/results").glob("comp4_*.txt")} == before
    expected = [one | {"image_id": renumbered[one["image_id"]]} for one in found]
    assert json.loads((project / "reports/results/coco_bbox.json").read_text()) == expected
    metrics = json.loads((project / "reports/metrics.json").read_text())
    assert metrics.pop("ground_truth") == "none: no test image is annotated"
    assert {value for scores in metrics.values() for value in scores.values()} == {None}
