"""The contract between a stage and whoever runs it.

A stage is a name, a version, the parameter groups and files it reads, the files it writes, and a ``run``.
``pipeline`` supplies the :class:`Context`; a stage can reach only what it declared, so that ``dvc.yaml`` (tested
against these declarations) cannot fall behind the code.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from cache import Artifact, Payload, Recipe, Store
from manifests import Dataset, ImageRecord

from .settings import Settings

# An image's pixels, uint8 [H, W, 3] RGB, upright; checked against ``record.sha256``.
ReadImage = Callable[[ImageRecord], Any]


@dataclass(frozen=True)
class ImageTask:
    """One unit of per-image work: what names the result, and what computes it needs.

    ``recipe`` names everything the result depends on; two tasks with equal recipes are computed once.
    ``reads`` are the objects of the store that computing it reads: their keys by stage. ``args`` is whatever else the
    computing needs of this image alone.
    """

    image: ImageRecord
    recipe: Recipe
    reads: Mapping[str, str] = field(default_factory=dict)
    args: Mapping[str, Any] = field(default_factory=dict)


class Compute(Protocol):
    """Computes one image's object; a subclass is a small frozen dataclass of what that needs.

    Picklable, since it may be sent to processes on other machines (once to each); a pure function of pixels and task,
    since it is called from several threads.
    """

    on_device: ClassVar[bool] = False  # whether it runs a network on ``execution.device``

    def prepare(self) -> None:
        """Called once in each process that computes, before the first image: compile, load, find the device.

        ``StageError`` where no image could be computed there.
        """
        return None

    def __call__(self, task: ImageTask) -> Payload:
        """The object. Its ``attrs["count"]`` (int) is the number of regions it holds; the progress line adds these up.

        ``StageError`` or ``DatasetError`` for a problem of this image alone.
        """
        raise NotImplementedError


class Log(Protocol):
    """One-line messages on stderr, and progress for loops that are not per-image."""

    def info(self, message: str) -> None: ...
    def warning(self, message: str) -> None: ...
    def progress(self, done: int, total: int, unit: str, note: str = "") -> None:
        """Report that ``done`` of ``total`` are through; rate and ETA are added, and calls may be frequent."""


class Context(Protocol):
    """What a stage sees of the world. Anything it did not declare raises ``LookupError``."""

    @property
    def store(self) -> Store:
        """The store that objects are read from; writing is ``compute_images``'s."""

    @property
    def log(self) -> Log:
        """Messages and progress, for the user."""

    @property
    def seed(self) -> int:
        """The pipeline's seed; derive others by ``numpy.random.SeedSequence([seed, ...])``."""

    @property
    def workers(self) -> int:
        """Threads for per-image work; never changes a result."""

    @property
    def device(self) -> str:
        """``auto``, ``cpu`` or ``cuda``: see :mod:`stages.networks.forward`."""

    def settings(self, group: str) -> Any:
        """The validated :class:`Settings` of one declared group, or the value of one declared parameter."""

    def input(self, name: str) -> Path:
        """The path of one declared input file."""

    def output(self, name: str) -> Path:
        """Where to write one declared output: it does not exist yet, its folder does.

        What is written there replaces the former output only when the whole stage has succeeded.
        """

    def work_dir(self) -> Path:
        """A folder for checkpoints and other state that outlives a killed run; DVC never deletes it."""

    def timings(self) -> Mapping[str, Mapping[str, Any]]:
        """Seconds, peak memory and counts of each stage's last run, by stage name; for showing, never for computing."""

    def dataset(self) -> Dataset:
        """The dataset manifest (declared input ``manifest``)."""

    def artifact(self, name: str) -> Artifact:
        """The artifact manifest of a declared input, e.g. ``artifact("proposals")``."""

    @property
    def image(self) -> ReadImage:
        """Reads an image's pixels; can be part of a :class:`Compute`."""

    def compute_images(self, tasks: Sequence[ImageTask], compute: Compute, *, unit: str = "regions") -> list[str]:
        """Compute what the store lacks, where ``execution`` says; returns one key per task, in order."""

    def after_commit(self, action: Callable[[], None]) -> None:
        """Do something when every output is in place and durable: drop the checkpoints that led to them."""

    def publish(self, name: str, entries: Sequence[tuple[int, str]], summary: Mapping[str, Any]) -> None:
        """Write declared output ``name`` as an artifact manifest. ``summary`` must be deterministic (no times)."""


@dataclass(frozen=True)
class Stage:
    """A declaration that ``dvc.yaml`` mirrors.

    ``version`` is part of every key the stage makes: raise it when the same inputs give another result.
    ``groups`` are top-level keys of params.yaml (``seed`` among them for a stage that draws), or single parameters of
    another stage's group (``features.crop``) where the rest of it does not matter. ``inputs`` and ``outputs`` map a
    short name to a path relative to the project root, e.g. ``{"manifest": "artifacts/manifest/manifest.json"}``.
    """

    name: str
    version: int
    settings: Mapping[str, type[Settings]]  # groups this stage owns (defines the schema of)
    groups: tuple[str, ...]  # groups it reads, own ones included
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    run: Callable[[Context], None]
    metrics: tuple[str, ...] = ()  # names of outputs that are DVC metrics
    plots: tuple[str, ...] = ()  # names of outputs that are DVC plots
