"""Kill the pipeline at random moments of every stage, start it again until it is through, and compare.

    python tests/faults/kill.py --kills 128 --dvc 32 --seed 0

A round is one tiny project taken through a pipeline and killed on the way (SIGKILL to the whole process group, at a
random moment of the time the stage took undisturbed, its start included): through the detector's stages, where it
combines its detections with those that an undisturbed run has saved, through those of classification/dvc.yaml, or
through Faster R-CNN's, in four steps and trained at once; each stage as often as any other. Most rounds start the
stages one by one by ``rcnn run STAGE``; ``--dvc`` of the kills hit ``dvc repro`` of the whole pipeline, some of them
when a stage is through and DVC itself at work. A kill counts for the stage whose process was alive when the signal was
sent; one that came too late counts for none and is done again. After every round: no object that was whole before a
kill was computed or written again, every file is equal bit for bit to the undisturbed run's, ``rcnn cache verify``
finds nothing, and ``rcnn cache gc --delete --grace 0`` leaves nothing unfinished behind.
"""

import argparse
import math
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

from process_group import BETWEEN, Ended, Kill, run_group  # noqa: E402
from tiny_project import (  # noqa: E402
    ALL_STAGE_NAMES,
    CLASSIFYING,
    COMBINING,
    HEAD_NAMES,
    REGION_KINDS,
    REGION_NODES,
    ROOT,
    SEGMENTATION_STAGE_NAMES,
    SEGMENTING,
    STAGE_NAMES,
    begun_again,
    combine_with_itself,
    leftovers,
    make_classifying,
    make_project,
    make_regions,
    objects_of,
    rcnn_command,
    region_nodes,
    results,
    run_of,
    whole_objects,
)

_FOUND = re.compile(r"^((?:\w+ )?\w+): (\d+) images computed, (\d+) found in the store$", re.MULTILINE)
_DVC_REFUSES = 255
_CUT_LOCK = re.compile(r"(?<!lock file )'(?:\./)?((?:classification/|segmentation/|detectors/\w+/)?dvc\.lock)'")


class PromiseBroken(Exception):
    """What a restart did that the store promises not to."""


@dataclass
class Report:
    """What the rounds came to."""

    kills: Counter[str] = field(default_factory=Counter)  # by the stage that was running, or BETWEEN
    survived: int = 0  # all was through before the signal came
    objects_whole: int = 0  # before a kill, added up: none of them was computed again
    objects_final: int = 0
    rounds: int = 0


@dataclass(frozen=True)
class Pipeline:
    """Stages that a project is taken through, in order."""

    stages: tuple[str, ...]
    make: Callable[[Path], Path]  # a project in which none of them has run, but for the head that detectors share
    targets: Mapping[tuple[str, ...], tuple[str, ...]]  # what `dvc repro` is told, by the stages that it then runs


DETECTOR = Pipeline(STAGE_NAMES, make_project, {STAGE_NAMES: ()})
# One target after the other: DVC puts stages that wait for the same into an order of its own.
CLASSIFICATION = Pipeline(
    CLASSIFYING,
    make_classifying,
    {
        CLASSIFYING[:-1]: ("classification/dvc.yaml:classify",),
        CLASSIFYING[-1:]: ("classification/dvc.yaml:classify_svm",),
    },
)
# The first of its stages waits for the proposals alone: DVC may put it before or after the second.
SEGMENTATION = Pipeline(
    SEGMENTING,
    make_project,
    {
        STAGE_NAMES: (),
        SEGMENTATION_STAGE_NAMES[:1]: ("segmentation/dvc.yaml:region_overlaps",),
        SEGMENTATION_STAGE_NAMES[1:]: ("segmentation/dvc.yaml",),
    },
)

# Fast R-CNN alone has no stage that these have not.
_SHARING = tuple(name for name in REGION_KINDS if name != "plain")
REGIONS = Pipeline(
    (*HEAD_NAMES, *(node for name in _SHARING for node in region_nodes(name))),
    make_regions,
    {
        HEAD_NAMES: ("proposals",),
        **{region_nodes(name): (f"detectors/{name}/dvc.yaml",) for name in _SHARING},
    },
)
PIPELINES = (DETECTOR, CLASSIFICATION, SEGMENTATION, REGIONS)


class Driver:
    """Takes a project through a pipeline by ``rcnn run``, one stage after another."""

    latest = 1.0  # of a stage's seconds: no kill is meant to come later

    def __init__(self, project: Path, pipeline: Pipeline = DETECTOR) -> None:
        self.project = project
        self.pipeline = pipeline

    @property
    def steps(self) -> tuple[tuple[str, ...], ...]:
        """The stages that each command runs."""
        return tuple((stage,) for stage in self.pipeline.stages)

    def run(self, step: tuple[str, ...], kill: Kill | None = None) -> Ended:
        """Run one of ``steps``, to its end or to the kill."""
        return run_group(rcnn_command(self.project, *run_of(*step)), ROOT, dict(os.environ), kill)

    def whole(self) -> dict[str, int]:
        """Number of whole objects by stage, as what is said of it begins."""
        return {stage.replace("/", " "): len(objects_of(self.project, stage)) for stage in self.pipeline.stages}


class DvcDriver(Driver):
    """``dvc repro``, in a project that has a copy of both ``dvc.yaml``."""

    latest = 1.15  # when a stage is through DVC writes down its outputs

    def __init__(self, project: Path, pipeline: Pipeline = DETECTOR, rcnn: Path | None = None) -> None:
        """``rcnn``: the program that DVC's commands find; None: one of this checkout, each a process of its own."""
        super().__init__(project, pipeline)
        for name in ("detections", "classification", "segmentation"):
            shutil.copytree(ROOT / name, project / name, dirs_exist_ok=True)
        for name in ("dvc.yaml", ".dvcignore"):
            shutil.copy(ROOT / name, project)
        home = project.parent / "home"
        (home / "bin").mkdir(parents=True, exist_ok=True)
        if rcnn is None:
            rcnn = home / "bin" / "rcnn"
            rcnn.write_text(f"#!{sys.executable}\nfrom pipeline.cli import main\nmain()\n")
            rcnn.chmod(0o755)
        path = f"{rcnn.parent}:{os.environ['PATH']}"
        own = {"PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(home), "DVC_NO_ANALYTICS": "1"}
        self.environment = {**os.environ, **own}
        self.dvc("init", "--no-scm", "-q")

    @property
    def steps(self) -> tuple[tuple[str, ...], ...]:
        return tuple(self.pipeline.targets)

    def run(self, step: tuple[str, ...], kill: Kill | None = None) -> Ended:
        command = ("repro", *self.pipeline.targets[step])
        while (ended := self.call(*command, kill=kill)).status == _DVC_REFUSES and self._drop_cut_file(ended.said):
            pass
        return ended

    def _drop_cut_file(self, said: str) -> bool:
        """Remove the file of DVC's own, which it rewrites in place, that it found cut off; as docs/store.md says."""
        cut = cut_file(said)
        if cut is None:
            return False
        print(f"DVC was killed while it rewrote {cut}: removed, as docs/store.md says", flush=True)
        (self.project / cut).unlink()
        return True

    def dvc(self, *arguments: str) -> None:
        """A command of DVC that must end well."""
        ended = self.call(*arguments)
        if ended.status:
            raise RuntimeError(ended.said)

    def call(self, *arguments: str, kill: Kill | None = None) -> Ended:
        """A command of DVC."""
        command = [sys.executable, "-W", "ignore", "-m", "dvc", *arguments]
        return run_group(command, self.project, self.environment, kill)


def cut_file(said: str) -> str | None:
    """The file of DVC's own that DVC, having said this, has found cut off."""
    if "Unable to read RWLock-file" in said:
        return ".dvc/tmp/rwlock"
    lock = _CUT_LOCK.search(said)
    return lock[1] if lock else None


def undisturbed(driver: Driver) -> dict[str, float]:
    """Run every stage, save the detections, and run those again that then combine them; seconds of each."""
    seconds = _run_steps(driver, driver.steps)
    if driver.pipeline is not DETECTOR:
        return seconds
    combine_with_itself(driver.project)
    return seconds | _run_steps(driver, [step for step in driver.steps if set(step) & set(COMBINING)])


def _run_steps(driver: Driver, steps: Iterable[tuple[str, ...]]) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for step in steps:
        ended = driver.run(step)
        if ended.status:
            raise PromiseBroken(f"{' '.join(step)}, undisturbed, ended with {ended.status}:\n{ended.said}")
        seconds |= ended.seconds
    return seconds


def killed_step(
    driver: Driver,
    step: tuple[str, ...],
    kills: Counter[str],
    seconds: dict[str, float],
    rng: random.Random,
    report: Report,
) -> None:
    """Run a step: in each of its stages, which take ``seconds``, killed so often, and then to its end.

    ``seconds`` gets less where a kill came too late: the machine may have been busier when they were measured.
    """
    moments: list[Kill | None] = [
        Kill(stage, _moment(seconds[stage] * driver.latest, rng)) for stage in step for _ in range(kills[stage])
    ]
    for kill in [*moments, None]:
        before, written = driver.whole(), whole_objects(driver.project)
        ended = driver.run(step, kill)
        check_restart(driver.project, ended.said, before, written)
        if ended.hit:
            report.kills[ended.hit] += 1
            report.objects_whole += len(whole_objects(driver.project))
        elif ended.status:
            raise PromiseBroken(f"{' '.join(step)} ended with {ended.status}:\n{ended.said}")
        elif kill:  # too late: all of the step is through
            report.survived += 1
            seconds[kill.stage] = min(seconds[kill.stage], ended.seconds.get(kill.stage, math.inf))
            return


def _moment(seconds: float, rng: random.Random) -> float:
    """Half of the kills fall into the last two fifths: the time before that goes by with importing torch."""
    return seconds * (rng.uniform(0.0, 1.0) if rng.random() < 0.5 else rng.uniform(0.6, 1.0))


def check_restart(project: Path, said: str, before: dict[str, int], written: dict[str, tuple[int, int]]) -> None:
    """No object that was whole before a run, of which there were ``before`` by stage, was computed or written by it."""
    for name, _, found in _FOUND.findall(said):
        if int(found) != before[name]:
            raise PromiseBroken(f"{name} had {before[name]} whole objects and found {found}")
    after = whole_objects(project)
    again = [name for name, was in written.items() if after.get(name) != was]
    if again:
        raise PromiseBroken(f"written again, or lost: {', '.join(again)}")


def check_end(project: Path, expected: dict[str, str]) -> None:
    """All results equal the undisturbed run's, the store is sound, and gc leaves nothing unfinished."""
    for arguments in (("cache", "verify"), ("cache", "gc", "--delete", "--grace", "0")):
        ended = run_group(rcnn_command(project, *arguments), ROOT, dict(os.environ))
        if ended.status:
            raise PromiseBroken(f"rcnn {' '.join(arguments)} ended with {ended.status}:\n{ended.said}")
    left = leftovers(project)
    if left:
        raise PromiseBroken(f"left behind after gc: {', '.join(left)}")
    found = results(project)
    differing = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    if differing:
        raise PromiseBroken(f"not as in the undisturbed run: {', '.join(differing)}")


def run_rounds(
    folder: Path,
    make: type[Driver],
    pipeline: Pipeline,
    n_kills: int,
    per_round: int,
    rng: random.Random,
    report: Report,
) -> None:
    """Kill ``n_kills`` times, every stage in turn, in as many rounds as that takes; results must equal ``make``'s."""
    if n_kills <= 0:
        return
    folder.mkdir(parents=True)
    reference, stages = make(pipeline.make(folder / "undisturbed"), pipeline), pipeline.stages
    seconds, expected = undisturbed(reference), results(reference.project)
    report.objects_final = max(report.objects_final, len(whole_objects(reference.project)))
    wanted = Counter({stage: n_kills // len(stages) for stage in stages})
    wanted.update(rng.sample(stages, n_kills % len(stages)))
    goal = report.kills + wanted
    while still := list((goal - report.kills).elements()):
        kills = Counter(rng.sample(still, min(per_round, len(still))))
        driver = make(begun_again(reference.project, folder / f"round{report.rounds}"), pipeline)
        for step in driver.steps:
            killed_step(driver, step, kills, seconds, rng, report)
        report.rounds += 1
        check_end(driver.project, expected)
        print(f"round {report.rounds}: {report.kills.total()} kills, {report.survived} too late", flush=True)
        shutil.rmtree(driver.project)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=128)
    parser.add_argument("--dvc", type=int, default=32, help="so many of the kills hit dvc repro (32: twice a stage)")
    parser.add_argument("--per-round", type=int, default=22)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    report, rng, begin = Report(), random.Random(options.seed), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rcnn-kill-") as name:
        for make, n_kills in ((Driver, options.kills - options.dvc), (DvcDriver, options.dvc)):
            still, stages = n_kills, sum(len(one.stages) for one in PIPELINES)
            for pipeline in PIPELINES:
                n = round(still * len(pipeline.stages) / stages)
                still, stages = still - n, stages - len(pipeline.stages)
                folder = Path(name) / make.__name__ / pipeline.stages[-1]
                run_rounds(folder, make, pipeline, n, options.per_round, rng, report)
    for place in (*ALL_STAGE_NAMES, *REGION_NODES, BETWEEN):
        print(f"{place:16} {report.kills[place]} kills")
    print(
        f"{report.kills.total()} kills in {report.rounds} rounds of up to {report.objects_final} objects, "
        f"{report.survived} signals came too late, {time.monotonic() - begin:.0f} s; "
        f"{report.objects_whole} times an object was whole at a kill, 0 were computed or written again"
    )


if __name__ == "__main__":
    main()
