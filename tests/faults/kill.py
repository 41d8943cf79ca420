"""Kill the pipeline at random moments of every stage, start it again until it is through, and compare.

    python tests/faults/kill.py --kills 100 --seed 0 [--dvc 20]

A round is one tiny project taken through the pipeline and killed on the way (SIGKILL to the whole process group, at a
random moment of the time the stage took undisturbed, its start included). Most rounds
start the stages one by one as DVC would, by ``rcnn run STAGE``; ``--dvc`` of the kills hit ``dvc repro`` itself, which
is slower to start. After every round: no object that was whole before a kill was computed or written again, every file
is equal bit for bit to the undisturbed run's, ``rcnn cache verify`` finds nothing, and ``rcnn cache gc --delete
--grace 0`` leaves nothing unfinished behind.
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

from tiny_project import ROOT, leftovers, make_project, rcnn_command, results, whole_objects  # noqa: E402

from pipeline.graph import STAGE_NAMES  # noqa: E402

_FOUND = re.compile(r"^(\w+): (\d+) images computed, (\d+) found in the store$", re.MULTILINE)


class PromiseBroken(Exception):
    """What a restart did that the store promises not to."""


@dataclass
class Report:
    """What the rounds came to."""

    kills: Counter[str] = field(default_factory=Counter)
    survived: int = 0  # the stage was through before the signal came
    objects_whole: int = 0  # before a kill, added up: none of them was computed again
    objects_final: int = 0
    rounds: int = 0


class Driver:
    """Starts the pipeline's next stage as a process group of its own."""

    def __init__(self, project: Path) -> None:
        self.project = project

    def run(self, stage: str, kill_after_s: float | None = None) -> tuple[int, str]:
        """Exit status and what was said by ``stage``, killed after so many seconds unless it ends before."""
        return _run(rcnn_command(self.project, "run", stage), ROOT, dict(os.environ), kill_after_s)

    def whole(self, stage: str) -> int:
        """Number of whole objects of a stage."""
        return len(list((self.project / "artifacts/objects" / stage).glob("*/*/object.json")))


class DvcDriver(Driver):
    """``dvc repro``, in a project that has a copy of the code (the stages' dependencies) and of ``dvc.yaml``."""

    def __init__(self, project: Path) -> None:
        super().__init__(project)
        for name in ("stages", "manifests", "cache"):
            shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("dvc.yaml", ".dvcignore"):
            shutil.copy(ROOT / name, project)
        home = project.parent / "home"
        (home / "bin").mkdir(parents=True, exist_ok=True)
        script = home / "bin" / "rcnn"
        script.write_text(f"#!{sys.executable}\nfrom pipeline.cli import main\nmain()\n")
        script.chmod(0o755)
        path = f"{script.parent}:{os.environ['PATH']}"
        own = {"PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(home), "DVC_NO_ANALYTICS": "1"}
        self.environment = {**os.environ, **own}
        status, said = self._dvc("init", "--no-scm", "-q")
        if status:
            raise RuntimeError(said)

    def run(self, stage: str, kill_after_s: float | None = None) -> tuple[int, str]:
        return self._dvc("repro", "--single-item", stage, kill_after_s=kill_after_s)

    def _dvc(self, *arguments: str, kill_after_s: float | None = None) -> tuple[int, str]:
        command = [sys.executable, "-W", "ignore", "-m", "dvc", *arguments]
        return _run(command, self.project, self.environment, kill_after_s)


def _run(command: list[str], cwd: Path, environment: dict[str, str], kill_after_s: float | None) -> tuple[int, str]:
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            process.wait(kill_after_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said.seek(0)
        return process.returncode, said.read()


def undisturbed(driver: Driver) -> dict[str, float]:
    """Run every stage; seconds of each."""
    seconds = {}
    for stage in STAGE_NAMES:
        begin = time.monotonic()
        status, said = driver.run(stage)
        if status:
            raise PromiseBroken(f"{stage}, undisturbed, ended with {status}:\n{said}")
        seconds[stage] = time.monotonic() - begin
    return seconds


def killed_stage(driver: Driver, stage: str, kills: int, seconds: float, rng: random.Random, report: Report) -> None:
    """Run a stage that takes ``seconds``: so often killed, and then to its end."""
    for left in range(kills, -1, -1):
        before, written = driver.whole(stage), whole_objects(driver.project)
        status, said = driver.run(stage, _moment(seconds, rng) if left else None)
        check_restart(driver.project, stage, said, before, written)
        if status == -signal.SIGKILL:
            report.kills[stage] += 1
            report.objects_whole += len(whole_objects(driver.project))
        elif status:
            raise PromiseBroken(f"{stage} ended with {status}:\n{said}")
        else:
            report.survived += left > 0


def _moment(seconds: float, rng: random.Random) -> float:
    """Half of the kills fall into the last two fifths: the time before that goes by with importing torch."""
    return seconds * (rng.uniform(0.0, 1.0) if rng.random() < 0.5 else rng.uniform(0.6, 1.0))


def check_restart(project: Path, stage: str, said: str, before: int, written: dict[str, tuple[int, int]]) -> None:
    """No object that was whole before a run of ``stage`` was computed or written by it."""
    for name, _, found in _FOUND.findall(said):
        if name == stage and int(found) != before:
            raise PromiseBroken(f"{stage} had {before} whole objects and found {found}")
    after = whole_objects(project)
    again = [name for name, was in written.items() if after.get(name) != was]
    if again:
        raise PromiseBroken(f"{stage} wrote again, or lost: {', '.join(again)}")


def check_end(project: Path, expected: dict[str, str]) -> None:
    """All results equal the undisturbed run's, the store is sound, and gc leaves nothing unfinished."""
    for arguments in (("cache", "verify"), ("cache", "gc", "--delete", "--grace", "0")):
        status, said = _run(rcnn_command(project, *arguments), ROOT, dict(os.environ), None)
        if status:
            raise PromiseBroken(f"rcnn {' '.join(arguments)} ended with {status}:\n{said}")
    left = leftovers(project)
    if left:
        raise PromiseBroken(f"left behind after gc: {', '.join(left)}")
    found = results(project)
    differing = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    if differing:
        raise PromiseBroken(f"not as in the undisturbed run: {', '.join(differing)}")


def run_rounds(
    folder: Path, make: Callable[[Path], Driver], n_kills: int, per_round: int, rng: random.Random, report: Report
) -> None:
    """Kill ``n_kills`` times, every stage in turn, in as many rounds as that takes; results must equal ``make``'s."""
    if n_kills <= 0:
        return
    reference = make(make_project(folder / "undisturbed"))
    seconds, expected = undisturbed(reference), results(reference.project)
    report.objects_final = len(whole_objects(reference.project))
    wanted = Counter({stage: n_kills // len(STAGE_NAMES) for stage in STAGE_NAMES})
    wanted.update(rng.sample(STAGE_NAMES, n_kills % len(STAGE_NAMES)))
    goal = report.kills + wanted
    while still := list((goal - report.kills).elements()):
        kills = Counter(rng.sample(still, min(per_round, len(still))))
        driver = make(make_project(folder / f"round{report.rounds}"))
        for stage in STAGE_NAMES:
            killed_stage(driver, stage, kills[stage], seconds[stage], rng, report)
        report.rounds += 1
        check_end(driver.project, expected)
        print(f"round {report.rounds}: {report.kills.total()} kills, {report.survived} too late", flush=True)
        shutil.rmtree(driver.project)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--dvc", type=int, default=0, help="so many of the kills hit dvc repro")
    parser.add_argument("--per-round", type=int, default=22)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    report, rng, begin = Report(), random.Random(options.seed), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rcnn-kill-") as name:
        for make, n_kills in ((Driver, options.kills - options.dvc), (DvcDriver, options.dvc)):
            folder = Path(name) / make.__name__
            folder.mkdir()
            run_rounds(folder, make, n_kills, options.per_round, rng, report)
    for stage in STAGE_NAMES:
        print(f"{stage:10} {report.kills[stage]} kills")
    print(
        f"{report.kills.total()} kills in {report.rounds} rounds of {report.objects_final} objects, "
        f"{report.survived} signals came too late, {time.monotonic() - begin:.0f} s; "
        f"{report.objects_whole} times an object was whole at a kill, 0 were computed or written again"
    )


if __name__ == "__main__":
    main()
