"""Two runs of one stage in one project: the second waits, and what is committed is whole."""

import subprocess
import sys
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def start(project: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "-C", str(project), "run", "scenes"]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def test_the_second_run_of_a_stage_waits_for_the_first(tmp_path: Path) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["scenes"].update(n_train=20, n_test=3, classification_train=30, classification_val=10)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    first = start(tmp_path)
    while first.poll() is None and not list(tmp_path.glob("artifacts/datasets/.partial/scenes/scenes/images/*")):
        time.sleep(0.02)
    assert first.poll() is None
    second = start(tmp_path)
    said = [run.communicate()[1] for run in (second, first)]
    assert (first.returncode, second.returncode) == (0, 0), said
    assert "waiting for it to end" in said[0]
    folder = tmp_path / "artifacts/datasets/scenes"
    assert len(list((folder / "images").iterdir())) == 23
    assert (folder / "manifest.json").exists()
