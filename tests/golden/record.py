"""Run the tiny project of ``params.yaml`` and ``detectors/`` beside this file, and record what each stage made of it.

python -m tests.golden.record
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from stages.graph import HEAD, KINDS
from tests.golden.results import DETECTORS, NODES, RECORDED, results_of

ROOT = Path(__file__).parents[2]
STAGES = [one.name for one in (*HEAD, *KINDS["rcnn"].places)]


def run_tiny(project: Path) -> Path:
    """Run every stage in the folder ``project``, which must be empty; returns it."""
    shutil.copyfile(Path(__file__).with_name("params.yaml"), project / "params.yaml")
    shutil.copytree(Path(__file__).with_name("detectors"), project / "detectors")
    _rcnn(project, "run", *STAGES)
    for name in DETECTORS:
        _rcnn(project, "-d", name, "run", "pretrain", *(node.name for node in NODES[name]))
    return project


def _rcnn(project: Path, *arguments: str) -> None:
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "-C", str(project), *arguments]
    one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # sums in one order
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | one_thread, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        RECORDED.write_text(json.dumps(results_of(run_tiny(Path(folder))), indent=1) + "\n", encoding="utf-8")
