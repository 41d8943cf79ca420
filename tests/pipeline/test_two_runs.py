"""Two runs of one stage in one project: the second waits, and what is committed is whole."""

import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import yaml
from stage_context import Messages
from waiting import wait_until

from pipeline.detectors import Layout
from pipeline.leftovers import alone

ROOT = Path(__file__).parents[2]
MAIN = "from pipeline.cli import main; main()"
# Begins the stage, says so, and goes on with it when there is a file GO.
HELD = """
import sys, time
from pathlib import Path
import stages.scenes.stage as stage
real = stage.run
def run(ctx):
    Path(sys.argv[2], "begun").touch()
    while not Path(sys.argv[2], "go").exists():
        time.sleep(0.01)
    real(ctx)
stage.run = run
"""


def start(project: Path, before: str = "") -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", before + MAIN, "-C", str(project), "run", "scenes"]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def test_the_second_run_of_a_stage_waits_for_the_first(tmp_path: Path) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["scenes"].update(n_train=20, n_test=3, classification_train=30, classification_val=10)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    with start(tmp_path, HELD) as first:
        wait_until(lambda: (tmp_path / "begun").exists() or first.poll() is not None, "the first run begins")
        with start(tmp_path) as second:
            assert second.stderr is not None
            waited = any("waiting for it to end" in line for line in second.stderr)
            (tmp_path / "go").touch()
            said = [run.communicate()[1] for run in (first, second)]
    assert waited
    assert (first.returncode, second.returncode) == (0, 0), said
    folder = tmp_path / "artifacts/datasets/scenes"
    assert len(list((folder / "images").iterdir())) == 23
    assert (folder / "manifest.json").exists()


def test_runs_of_one_detector_wait_for_each_other_and_for_no_other_detectors(tmp_path: Path) -> None:
    root, mine, yours = (Layout(tmp_path, name) for name in ("rcnn", "mine", "yours"))
    log, through = Messages(), Event()

    def second(node: str) -> None:
        with alone(mine, node, log):
            through.set()

    # the proposals are every detector's: who asks for another's waits for the root's
    for first, node in ((mine, "svm"), (root, "proposals")):
        log.infos.clear()
        through.clear()
        thread = Thread(target=second, args=(node,))
        with alone(first, node, log):
            with alone(yours, "svm", log), alone(root, "svm", log), alone(mine, "bbox", log):
                assert log.infos == []
            thread.start()
            wait_until(lambda: bool(log.infos), "it says that it waits")
            assert "waiting for it to end" in log.infos[0]
            assert not through.wait(0.1)
        thread.join()
        assert through.is_set()
