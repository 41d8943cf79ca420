"""What it costs when there is nothing to do: ``dvc repro`` of a finished project, and ``rcnn --help``.

The peers: DVC's own no-op on a chain of as many stages that copy one small file each, and ``python -c pass``.
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

DVC_FACTOR = 1.5  # at most so many times DVC's own no-op
HELP_MARGIN_S = 0.3


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
    """A copy of this checkout, small, through all its stages; returns their number."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    (folder / "params.yaml").write_text(yaml.safe_dump(small_params(), sort_keys=False), encoding="utf-8")
    called(folder, "git", "init", "--quiet")
    called(folder, "dvc", "repro")
    stages: dict[str, Any] = yaml.safe_load((folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return len(stages)


def plain_project(folder: Path, stages: int) -> None:
    """A chain of stages that copy a file."""
    chain = {
        f"s{i}": {"cmd": f"cp {i}.txt {i + 1}.txt", "deps": [f"{i}.txt"], "outs": [f"{i + 1}.txt"]}
        for i in range(stages)
    }
    folder.mkdir()
    (folder / "0.txt").write_text("x")
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": chain}), encoding="utf-8")
    called(folder, "git", "init", "--quiet")
    called(folder, "dvc", "init", "--quiet")
    called(folder, "dvc", "repro")


def figures(_: str) -> Iterator[Figure]:
    """The two costs."""
    with tempfile.TemporaryDirectory() as name:
        mine, plain = Path(name, "rcnn"), Path(name, "plain")
        mine.mkdir()
        stages = our_project(mine)
        plain_project(plain, stages)
        theirs, ours = harness.take_turns(
            lambda: called(plain, "dvc", "repro"), lambda: called(mine, "dvc", "repro"), rounds=5
        )
    yield Figure(
        "`dvc repro` with nothing to do",
        f"{statistics.median(ours):.2f} s",
        f"DVC's no-op of {stages} stages, times {DVC_FACTOR}: {DVC_FACTOR * statistics.median(theirs):.2f} s",
        DVC_FACTOR * harness.median_ratio(theirs, ours),
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
