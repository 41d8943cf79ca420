"""The smallest project that goes through every stage in seconds, and what two runs of it have to agree in."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from cache import Artifact
from manifests import ReadOptions, import_dataset
from stages.contract import Node
from stages.graph import CLASSIFICATION, HEAD, KINDS, SEGMENTATION, at, root_nodes

ROOT = Path(__file__).parents[2]
STAGE_NAMES = tuple(one.name for one in (*HEAD, *KINDS["rcnn"].places))
CLASSIFICATION_STAGE_NAMES = tuple(one.name for one in CLASSIFICATION)
SEGMENTATION_STAGE_NAMES = tuple(one.name for one in SEGMENTATION)
ALL_STAGE_NAMES = tuple(root_nodes())
HEAD_NAMES = tuple(one.name for one in HEAD)
# Those whose one object is what they trained.
TRAINING = tuple(name for name, node in root_nodes().items() if node.stage.trained and name in STAGE_NAMES)
# The page and the timings show how long the stages took, which no two runs agree in.
TIMED = ("index.html", "timings.json")
# One object per image, in stage order.
IMAGE_STAGES = ("proposals", "features", "detect")
# What runs again once detections are saved.
COMBINING = STAGE_NAMES[STAGE_NAMES.index("combine") :]
# What `dvc repro segmentation/dvc.yaml` runs, and after it.
SEGMENTING = (*STAGE_NAMES, *SEGMENTATION_STAGE_NAMES)
# What `dvc repro classification/dvc.yaml` runs.
CLASSIFYING = ("manifest", "pretrain", *CLASSIFICATION_STAGE_NAMES)
# Detectors on a map of the whole image, by name: their kinds. A node of one is named "steps/rpn_1".
REGION_KINDS = {"plain": "fast", "steps": "faster", "once": "joint", "dense": "overfeat"}
REGION_NODES = tuple(f"{name}/{one.name}" for name, kind in REGION_KINDS.items() for one in KINDS[kind].places)
# One node of each stage that these have and R-CNN has not, with maps and without.
REGION_STAGES = (
    *("steps/rpn_1", "steps/propose_1", "steps/fast_2", "steps/maps", "steps/roi_detect", "once/joint"),
    *(f"dense/{node}" for node in ("maps", "finetune_dense", "regress", "slide", "merge", "localisation")),
)
# The rest of a detector's own parameters is as `rcnn detector add` writes it.
_REGION_PARAMS: dict[str, dict[str, Any]] = {
    "pretrain": {"iterations": 4, "batch": 8, "eval_every": 2, "checkpoint_every": 2},
    "rpn": {"scales_px": [24, 48], "ratios": [0.5, 1, 2], "border_px": 8, "channels": 16},
    "propose": {"min_side_px": 4, "train_after_nms": 60, "after_nms": 30, "before_nms": 500},
    "fast": {"rois_per_image": 16},
    "maps": {"short_px": 96, "long_px": 160, "scales_px": [144, 232]},
    "finetune_dense": {"background_pool": 20, "held_out_fraction": 0.25, "fg_iou": 0.4},
    "regress": {"batch": 16, "units": [24, 16]},
    "merge": {"score_floor": 0.0, "max_windows": 20},
    "roi_detect": {"score_floor": 0.0},
    "evaluate": {"n_bootstrap": 5},
}
_REGION_SCHEDULE = {"iterations": 4, "step": 3, "eval_every": 2, "checkpoint_every": 1}
# The nodes that train, of all these detectors.
TRAININGS = ("pretrain", "rpn_1", "fast_1", "rpn_2", "fast_2", "fast", "joint", "finetune_dense", "regress")
CLASS_FOLDERS = "pets"
Written = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Answer:
    """How a run of ``rcnn`` ended, what it said, and how often it wrote to the watched folder."""

    status: int
    said: str
    writes: int


def done(answer: Answer) -> str:
    assert answer.status == 0, answer.said
    return answer.said


def computed(said: str) -> dict[str, int]:
    """How many images each node computed; 1 for one that trained, 0 for one that took it from the store."""
    found = {}
    for node, line in re.findall(r"^(?:\w+ )?(\w+): (.*)$", said, re.MULTILINE):
        if counted := re.match(r"(\d+) images computed", line):
            found[node] = int(counted[1])
        elif node in TRAININGS:
            found[node] = max(found.get(node, 0), 0) if "trained before" in line else found.get(node, 1)
    return found


def tiny_params() -> dict[str, Any]:
    """The demo's parameters with seven small scenes, three classes, and a checkpoint after every iteration."""
    params: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["scenes"].update(n_train=4, n_test=3, classification_train=40, classification_val=20)
    params["scenes"].update(width_px=160, height_px=120, object_min_px=24, object_max_px=60)
    params["scenes"].update(objects_min=4, objects_max=5)
    params["manifest"]["classes"] = ["one", "seven", "nine"]
    params["proposals"].update(max_proposals=30, k=[100])
    params["pretrain"].update(iterations=4, batch=8, eval_every=2, checkpoint_every=1)
    params["finetune"].update(iterations=4, eval_every=2, checkpoint_every=1, fg_per_batch=4, bg_per_batch=12)
    params["evaluate"].update(n_bootstrap=5)
    params["svr"].update(held_out_fraction=0.25)
    params["segment_evaluate"].update(best_images=1, worst_images=1, random_images=1)
    params["execution"].update(workers=2, device="cpu")
    return params


def make_project(folder: Path, params: dict[str, Any] | None = None) -> Path:
    """A project folder that holds ``params.yaml`` and nothing else yet."""
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(params or tiny_params(), sort_keys=False), encoding="utf-8")
    return folder


def make_classifying(folder: Path) -> Path:
    """A project folder that holds class folders, imported, and parameters that classify them, and nothing else yet.

    Eight pictures to train on and four to test; the network has a pyramid, so that there are full views too.
    """
    params = tiny_params()
    params["dataset"], params["manifest"]["classes"] = CLASS_FOLDERS, None
    params["network"]["pyramid"], params["pretrain"]["sizes_px"] = [2, 1], [64, 48]
    make_project(folder, params)
    rng = np.random.default_rng(0)
    for i in range(12):
        file = folder / "pictures" / ("test" if i % 3 == 0 else "train") / ("cat", "dog")[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (30 + i, 40, 3), np.uint8)).save(file)
    import_dataset("folders", folder / "pictures", CLASS_FOLDERS, ReadOptions(), folder / "artifacts")
    return folder


def params_file(project: Path, detector: str) -> Path:
    """The parameters of a detector beside the project's own."""
    return project / "detectors" / detector / "params.yaml"


def change(project: Path, detector: str, group: str, **values: Any) -> None:
    """Set parameters of a group of a detector beside the project's own."""
    path = params_file(project, detector)
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params[group].update(values)
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def region_nodes(detector: str) -> tuple[str, ...]:
    """The own nodes of one of ``REGION_KINDS``, in running order."""
    return tuple(name for name in REGION_NODES if name.startswith(f"{detector}/"))


def make_regions(folder: Path) -> Path:
    """A project folder with a detector of each of ``REGION_KINDS``, of which nothing has run."""
    project = make_project(folder)
    for name, kind in REGION_KINDS.items():
        command = rcnn_command(project, "detector", "add", name, "--kind", kind)
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        shorten(project, name)
    return project


def shorten(project: Path, name: str) -> None:
    """Cut a new detector of one of these kinds down to seconds."""
    own = yaml.safe_load(params_file(project, name).read_text(encoding="utf-8"))
    for group in ("rpn", "fast", "joint", "finetune_dense", "regress"):
        if "iterations" in own.get(group, {}):
            change(project, name, group, **_REGION_SCHEDULE)
    for group, values in _REGION_PARAMS.items():
        if group in own:
            change(project, name, group, **{key: value for key, value in values.items() if key in own[group]})


def combine_with_itself(project: Path) -> None:
    """Put the detections of a finished project aside, and have ``combine`` join them with these.

    It then makes an object for each image; without saved detections it hands on detect's list.
    """
    saved = project / "detections/itself.json"
    saved.parent.mkdir(exist_ok=True)
    shutil.copy(project / "artifacts/detect/manifest.json", saved)
    params = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    params["combine"]["detectors"] = [saved.stem]
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def begun_again(finished: Path, folder: Path) -> Path:
    """A project folder that holds of a finished one what no stage has made, and nothing else yet.

    That is the parameters, and the saved detections or the class folders.
    """
    make_project(folder, yaml.safe_load((finished / "params.yaml").read_text(encoding="utf-8")))
    for name in ("detections", "detectors", "pictures", f"artifacts/datasets/{CLASS_FOLDERS}"):
        if (finished / name).exists():
            shutil.copytree(finished / name, folder / name, dirs_exist_ok=True)
    return folder


def rcnn_command(project: Path, *arguments: str) -> list[str]:
    """``rcnn -C project ARGUMENTS`` of this checkout; to be run in ``ROOT``."""
    return [sys.executable, "-c", "from pipeline.cli import main; main()", "-C", str(project), *arguments]


def node_of(name: str) -> Node:
    """A node by its name: ``svm`` of the root's detector, ``steps/rpn_1`` of another."""
    detector, _, node = name.rpartition("/")
    if not detector:
        return root_nodes()[name]
    return at(next(one for one in KINDS[REGION_KINDS[detector]].places if one.name == node), detector)


def run_of(*names: str) -> tuple[str, ...]:
    """The arguments of ``rcnn`` that run nodes of one detector."""
    detector, nodes = names[0].rpartition("/")[0], [name.rpartition("/")[2] for name in names]
    return (*(("-d", detector) if detector else ()), "run", *nodes)


class StageServer:
    """``stage_server.py`` in a process: runs ``rcnn`` without the seconds that importing torch takes."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).parent / "stage_server.py")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._ask() == "ready\n"

    def run(self, project: Path, *arguments: str, **fault: Any) -> Answer:
        """``rcnn -C project ARGUMENTS`` under a fault (see stage_server.py)."""
        request = {"argv": ["-C", str(project), *arguments], **{k: _plain(v) for k, v in fault.items()}}
        return Answer(**json.loads(self._ask(json.dumps(request) + "\n")))

    def close(self) -> None:
        self._process.communicate()

    def _ask(self, line: str = "") -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()
        return self._process.stdout.readline()


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def results(project: Path) -> dict[str, str]:
    """sha256 by path of all that a run leaves: outputs, references and every file of every object."""
    found = {}
    for top in ("artifacts", "reports"):
        for path in sorted((project / top).rglob("*")):
            name = path.relative_to(project).as_posix()
            if path.is_file() and not (top == "reports" and path.name in TIMED) and not name.endswith(".gitignore"):
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def whole_objects(project: Path) -> Written:
    """Inode and time of writing of every object's record: both change if the object is written again."""
    records = (project / "artifacts/objects").glob("*/*/*/object.json")
    return {path.relative_to(project).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns) for path in records}


def leftovers(project: Path) -> list[str]:
    """What only a run in progress, or one that was killed, has a use for."""
    found = [path for pattern in (".partial", "*.partial", "*.tmp") for path in project.rglob(pattern)]
    for folder in ("tmp", "checkpoints", "detectors/*/checkpoints", "quarantine"):
        found += [path for path in (project / "artifacts").glob(f"{folder}/**/*") if path.is_file()]
    return sorted({path.relative_to(project).as_posix() for path in found if ".dvc" not in path.parts})


def forget(project: Path, name: str) -> None:
    """Remove a node's outputs, its objects and what refers to them, as if it had never run.

    What another node's list names stays.
    """
    node = node_of(name)
    for path in (project / output for output in node.outputs.values()):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for folder in _own_folders(project, name):
        shutil.rmtree(folder)
    kept = {f"{other.stage}-{other.digest}.json" for other in _other_lists(project, name)}
    for reference in (project / "artifacts/refs").glob(f"{node.stage.name}-*.json"):
        if reference.name not in kept:
            reference.unlink()


def objects_of(project: Path, name: str) -> list[Path]:
    """The folders of a node's whole objects: those of its stage that no other node's list names."""
    return [folder for folder in _own_folders(project, name) if (folder / "object.json").exists()]


def _own_folders(project: Path, name: str) -> list[Path]:
    others = {key for other in _other_lists(project, name) for _, key in other.entries}
    folders = (project / "artifacts/objects" / node_of(name).stage.name).glob("*/*")
    return [folder for folder in folders if folder.name not in others]


def list_file(name: str) -> str:
    """The file in which a node lists its objects."""
    outputs = node_of(name).outputs
    return outputs["trained"] if "trained" in outputs else outputs["manifest"]


@cache
def _lists_beside(name: str) -> tuple[str, ...]:
    """The lists of the other nodes of a node's stage."""
    stage = node_of(name).stage
    others = (one for one in (*ALL_STAGE_NAMES, *REGION_NODES) if one != name and node_of(one).stage is stage)
    return tuple(list_file(one) for one in others if {"trained", "manifest"} & stage.outputs.keys())


def _other_lists(project: Path, name: str) -> list[Artifact]:
    return [Artifact.read(project / path) for path in _lists_beside(name) if (project / path).exists()]
