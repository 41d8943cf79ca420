"""Computes per-image objects: what the store lacks, each key once, surviving a kill at any moment.

What is the same wherever the images are computed is here: finding what is missing, counting, collecting the problems
of single images, progress. A :class:`Runner` says where: threads (``local_runner``) or a Dask cluster
(``dask_runner``). Each finished object is put into the store at once by whoever computed it, so that whatever was
computed before a kill is found again.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

from cache import Store
from cache.environment import Environment
from cache.errors import ExecutionError, InterruptedRun, StageError
from manifests import DatasetError
from stages.contract import Compute, ImageTask, Log
from stages.stopwatch import collected

from .environments import Notice, environment_here


@dataclass
class Tally:
    """What one stage's per-image work came to."""

    computed: int = 0
    reused: int = 0
    regions: int = 0
    seconds: dict[str, list[float]] = field(default_factory=dict)  # of each computed image, by part of the work

    def add(self, outcome: "Outcome") -> None:
        """Count one computed image; its regions are added up where progress is shown."""
        self.computed += 1
        for part, seconds in outcome.seconds.items():
            self.seconds.setdefault(part, []).append(seconds)

    @property
    def per_image(self) -> dict[str, float]:
        """Median seconds of each part; nothing where the work names no parts.

        Not the mean: the first image of a process waits for what is compiled and loaded on first use.
        """
        return {part: median(seconds) for part, seconds in sorted(self.seconds.items())}


@dataclass(frozen=True)
class Outcome:
    """What became of one task: its regions and the seconds of its parts, or a problem of its image, or an error that
    ends the run."""

    regions: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    problem: str | None = None
    error: Exception | None = None


@dataclass(frozen=True)
class Work:
    """What is done to each task: compute the object and put it into the store. Picklable where ``compute`` is.

    ``device`` is ``execution.device``. An object's record names the environment of the process that computes it.
    """

    store: Store
    compute: Compute
    device: str = "cpu"

    def __call__(self, task: ImageTask) -> Outcome:
        """Never raises an ``Exception``: it is in the outcome, named after the image where it is a bug of ours."""
        try:
            environment = environment_here(self.device if self.compute.on_device else None)
            if task.recipe.environment not in (None, environment.digest):
                return Outcome(error=_elsewhere(environment))
            with collected() as seconds:
                payload = self.compute(task)
            self.store.put(task.recipe, payload, environment)
            return Outcome(int(payload.attrs["count"]), seconds)
        except (StageError, DatasetError) as error:
            return Outcome(problem=str(error))
        except Exception as error:
            error.add_note(f"while computing image {task.image.file_name}")
            return Outcome(error=error)


def _elsewhere(environment: Environment) -> ExecutionError:
    """The error of a process whose environment is not the one that keys name."""
    return ExecutionError(
        f"a process that computes images has {environment}, and the one that named their keys has another environment "
        "(store.environment: key); use the same versions and the same kind of device, or set store.environment to "
        "record"
    )


class Runner(Protocol):
    """Where tasks are computed."""

    def outcomes(
        self, work: Work, tasks: Sequence[ImageTask]
    ) -> AbstractContextManager[Iterator[tuple[ImageTask, Outcome]]]:
        """Start the work; inside the ``with`` each task comes out once, in the order in which they finish.

        Leaving it early starts no further task. Raises ``StageError`` where nothing can be computed here at all.
        """


@dataclass(frozen=True)
class Executor:
    """Fills a store by means of a runner; ``tally`` adds up over several calls.

    ``device`` is ``execution.device``; ``notice`` is told which objects were there.
    """

    store: Store
    runner: Runner
    log: Log
    tally: Tally
    device: str = "cpu"
    notice: Notice | None = None

    def compute(self, tasks: Sequence[ImageTask], compute: Compute, *, unit: str) -> list[str]:
        """Compute and store every task whose object is missing; returns one key per task, in order.

        A problem with one image does not stop the others: all such problems are raised together at the end, after
        everything else has been stored. A full disk stops at once. On an interrupt no further image is started.

        Raises
        ------
        StageError
            One line per image that could not be computed.
        StoreError
            The store cannot take objects.
        ExecutionError
            The cluster, or a worker of it, cannot do the work.
        InterruptedRun
            Ctrl-C or SIGTERM.
        """
        keys = [task.recipe.key for task in tasks]
        missing = self._missing(tasks, keys)
        todo = {key: task for task, key in zip(tasks, keys, strict=True) if key in missing}
        self.tally.reused += len(set(keys)) - len(todo)
        if self.notice is not None:
            here = environment_here(self.device if compute.on_device else None)
            for stage in {task.recipe.stage for task in tasks}:
                there = [k for k, t in zip(keys, tasks, strict=True) if t.recipe.stage == stage and k not in missing]
                self.notice.met(stage, there, here)
        if todo:
            self._run(Work(self.store, compute, self.device), list(todo.values()), unit)
        self.log.info(f"{len(todo)} images computed, {len(set(keys)) - len(todo)} found in the store")
        return keys

    def _missing(self, tasks: Sequence[ImageTask], keys: Sequence[str]) -> set[str]:
        by_stage: dict[str, list[str]] = {}
        for task, key in zip(tasks, keys, strict=True):
            by_stage.setdefault(task.recipe.stage, []).append(key)
        return {key for stage, stage_keys in by_stage.items() for key in self.store.missing(stage, stage_keys)}

    def _run(self, work: Work, tasks: Sequence[ImageTask], unit: str) -> None:
        problems: list[str] = []
        try:
            with self.runner.outcomes(work, tasks) as outcomes:
                self._collect(outcomes, len(tasks), unit, problems)
        except KeyboardInterrupt:
            raise InterruptedRun from None
        if problems:
            raise StageError("\n".join(sorted(problems)))

    def _collect(
        self, outcomes: Iterator[tuple[ImageTask, Outcome]], total: int, unit: str, problems: list[str]
    ) -> None:
        regions = 0
        self.log.progress(0, total, "images")
        try:
            for done, (_, outcome) in enumerate(outcomes, 1):
                if outcome.error is not None:
                    raise outcome.error
                if outcome.problem is not None:
                    problems.append(outcome.problem)
                else:
                    regions += outcome.regions
                    self.tally.add(outcome)
                self.log.progress(done, total, "images", f"{regions} {unit}")
        except KeyboardInterrupt:
            self.log.info("stopping; what is computed is kept")
            raise
        finally:
            self.tally.regions += regions
