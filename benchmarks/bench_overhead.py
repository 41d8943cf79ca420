"""What it costs when there is nothing to do: ``dvc repro`` of a finished project, and ``rcnn --help``.

The peers: DVC's own no-op on a chain of as many stages that copy one small file each, and ``python -c pass``. And what
four detectors' files, or a comment edited in the code, add to the no-op.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from benchmarks import harness
from benchmarks.harness import Figure
from benchmarks.project import ROOT, default_params

DVC_FACTOR = 1.2  # at most so many times DVC's own no-op
DETECTORS_MARGIN_S = 0.15
COMMENT_FACTOR = 3
HELP_MARGIN_S = 0.1


def small_params() -> dict[str, Any]:
    """The built-in dataset and its network, cut down to seconds."""
    params = default_params()
    params["scenes"].update(n_train=10, n_test=5, classification_train=160, classification_val=40)
    params["proposals"].update(max_proposals=40, k=[100])
    params["pretrain"].update(iterations=4, eval_every=4, checkpoint_every=4)
    params["finetune"].update(iterations=2, eval_every=2, checkpoint_every=2, fg_per_batch=4, bg_per_batch=12)
    params["evaluate"].update(n_bootstrap=20, similar_classes=[])
    return params


def called(folder: Path, *command: str) -> None:
    """Run a command of this environment there; its output on failure."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stdout}{done.stderr}")


def our_project(folder: Path) -> int:
    """Put a small copy of this checkout there, with R-CNN alone, through all its stages; returns their number."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists() and not name.startswith(("detectors/", "comparison/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    (folder / "params.yaml").write_text(yaml.safe_dump(small_params(), sort_keys=False), encoding="utf-8")
    called(folder, "git", "init", "--quiet")
    called(folder, "dvc", "repro")
    stages: dict[str, Any] = yaml.safe_load((folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return len(stages)


def with_detectors(alone: Path, folder: Path) -> None:
    """Copy the finished project and add four detectors, none of which has run."""
    shutil.copytree(alone, folder, symlinks=True)
    for number in range(4):
        called(folder, sys.executable, "-c", _RCNN, "detector", "add", f"second{number}", "--kind", "rcnn")


_RCNN = "from pipeline.cli import main; main()"
_NO_OP = ("dvc", "repro")


def edit_a_comment(folder: Path) -> None:
    """Put another comment into a file that every stage imports."""
    with (folder / "stages" / "contract.py").open("a", encoding="utf-8") as file:
        file.write("# edited\n")


def plain_stages(folder: Path, stages: int) -> None:
    """A dvc.yaml with a chain of stages that copy a file."""
    chain = {
        f"s{i}": {"cmd": f"cp {i}.txt {i + 1}.txt", "deps": [f"{i}.txt"], "outs": [f"{i + 1}.txt"]}
        for i in range(stages)
    }
    folder.mkdir()
    (folder / "0.txt").write_text("x")
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": chain}), encoding="utf-8")


def plain_project(folder: Path, stages: int) -> None:
    """A finished project of such stages."""
    plain_stages(folder, stages)
    called(folder, "git", "init", "--quiet")
    called(folder, "dvc", "init", "--quiet")
    called(folder, "dvc", "repro")


def figures(_: str) -> Iterator[Figure]:
    """The costs, one after the other."""
    with tempfile.TemporaryDirectory() as name:
        mine, four, plain, plain_four = (Path(name, part) for part in ("rcnn", "four", "plain", "plain_four"))
        mine.mkdir()
        stages = our_project(mine)
        with_detectors(mine, four)
        plain_project(plain, stages)
        shutil.copytree(plain, plain_four, symlinks=True)
        for number in range(4):
            plain_stages(plain_four / f"second{number}", stages)
        theirs, ours = harness.take_turns(lambda: called(plain, *_NO_OP), lambda: called(mine, *_NO_OP), rounds=5)
        alone, beside, bare, bare_beside = harness.take_turns(
            *(lambda folder=folder: called(folder, *_NO_OP) for folder in (mine, four, plain, plain_four)), rounds=5
        )

        def after_comment() -> None:
            edit_a_comment(mine)
            called(mine, *_NO_OP)

        no_op, edited = harness.take_turns(lambda: called(four, *_NO_OP), after_comment, rounds=3)
    yield Figure(
        "`dvc repro` with nothing to do",
        f"{statistics.median(ours):.2f} s",
        f"DVC's no-op of {stages} stages, times {DVC_FACTOR}: {DVC_FACTOR * statistics.median(theirs):.2f} s",
        DVC_FACTOR * harness.median_ratio(theirs, ours),
        1,
    )
    more = max(statistics.median(b - a for a, b in zip(alone, beside, strict=True)), 1e-3)
    own = statistics.median(b - a for a, b in zip(bare, bare_beside, strict=True))
    yield Figure(
        "the same, more with four detectors' files",
        f"{more:.3f} s",
        f"{DETECTORS_MARGIN_S} s",
        DETECTORS_MARGIN_S / more,
        1,
        f"DVC's own for four more files of {stages} stages that copy a file: {own:.3f} s",
    )
    yield Figure(
        "`dvc repro` after a comment in stages/",
        f"{statistics.median(edited):.2f} s",
        f"the no-op, times {COMMENT_FACTOR}: {COMMENT_FACTOR * statistics.median(no_op):.2f} s",
        COMMENT_FACTOR * harness.median_ratio(no_op, edited),
        1,
    )
    bare, ours = harness.take_turns(
        lambda: called(ROOT, sys.executable, "-c", "pass"), lambda: called(ROOT, "rcnn", "--help"), rounds=11
    )
    more = statistics.median(b - a for a, b in zip(bare, ours, strict=True))
    yield Figure(
        "`rcnn --help`, more than `python -c pass`",
        f"{more:.3f} s",
        f"{HELP_MARGIN_S} s",
        HELP_MARGIN_S / more,
        1,
    )


if __name__ == "__main__":
    harness.main(figures)
