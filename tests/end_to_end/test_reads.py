"""What each stage declares is what it reads: no more, or DVC runs it for nothing; no less, or its result is stale."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.graph import CLASSIFICATION, SEGMENTATION, root_nodes

_TASKS = {one.name for one in (*CLASSIFICATION, *SEGMENTATION)}  # in projects of their own
NODES = {name: node for name, node in root_nodes().items() if name not in _TASKS}
# Read in one of two settings only, by a second run.
BY_SOFTMAX = {("svm", "weights")}
WITH_OTHERS = {("combine", "manifest"), ("combine", "saved")}
# Not inputs: the store (keys say what is read), checkpoints, locks (empty), parameters, and timings for show.
STORE = ("artifacts/objects", "artifacts/refs", "artifacts/tmp", "artifacts/store.json")
NO_INPUT = (*STORE, "artifacts/checkpoints", "artifacts/.locks")
ALSO_NO_INPUT = ("params.yaml", "reports/timings.json", "reads.json")
# Says where the images lie; their bytes are checked against the manifest's digests, so that it changes no result.
SOURCE = "artifacts/datasets/scenes/source.json"
PICTURES = "artifacts/datasets/scenes/images/"
# Read by the stage that checks every file of a dataset; a detector looks at no mask.
MASKS = tuple(f"artifacts/datasets/scenes/{name}/" for name in ("SegmentationClass", "SegmentationObject"))


@pytest.fixture(scope="module")
def reads(finished: Path) -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = json.loads((finished / "reads.json").read_text())
    return found


@pytest.mark.parametrize("name", NODES)
def test_parameters_are_read_as_declared(reads: Any, name: str) -> None:
    stage = NODES[name].stage
    models = {*stage.settings.values(), *stage.reads.values()}
    assert set(reads[name]["settings"]) == {model.__name__ for model in models}
    assert bool(reads[name]["seed"]) == (stage.seeded or stage.reads_all)


@pytest.mark.parametrize("name", NODES)
def test_inputs_are_asked_for_as_declared(reads: Any, name: str) -> None:
    conditional = {what for stage, what in BY_SOFTMAX | WITH_OTHERS if stage == name}
    assert set(reads[name]["input"]) == set(NODES[name].inputs) - conditional


def test_the_record_sees_files(reads: Any, finished: Path) -> None:
    assert str(finished / "artifacts/features/manifest.json") in reads["svm"]["open"]
    assert str(finished / SOURCE) in reads["features"]["open"]


@pytest.mark.parametrize("name", NODES)
def test_no_other_file_of_the_project_is_opened(reads: Any, finished: Path, name: str) -> None:
    node = NODES[name]
    # folders are opened to make a rename durable; what is no longer there was a temporary name of an output
    root = finished.resolve()  # numba names its sources with .. in the path
    files = (Path(path).resolve() for path in reads[name]["open"] if Path(path).is_file())
    opened = {path.relative_to(root).as_posix() for path in files if path.is_relative_to(root)}
    allowed = [p.replace("${dataset}", "scenes") for p in (*node.inputs.values(), *node.outputs.values())]
    strange = {
        path
        for path in opened
        if not path.startswith(NO_INPUT)
        and path not in (*ALSO_NO_INPUT, SOURCE)
        and not path.startswith((PICTURES, *MASKS) if name == "manifest" else PICTURES)
        and not any(path == a or path.startswith(f"{a}/") for a in allowed)
    }
    assert not strange


def test_softmax_reads_the_weights(
    project: Path, put_params: Callable[..., None], record_rcnn: Callable[..., None], tmp_path: Path
) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["svm"]["classifier"] = "softmax"
    put_params(project, params)
    record_rcnn(project, tmp_path / "reads.json", "run", "svm")
    assert "weights" in json.loads((tmp_path / "reads.json").read_text())["svm"]["input"]
