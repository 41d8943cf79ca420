"""The contract between a stage and whoever runs it.

A stage is a name, a version, the parameter groups and files it reads, the files it writes, and a ``run``; a node is a
stage in one place of a detector. ``pipeline`` supplies the :class:`Context`; a stage can reach only what it declared,
so that dvc.yaml, which is written from these declarations, cannot fall behind the code.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from cache import Artifact, Payload, Recipe, Store
from manifests import Dataset, ImageRecord
from manifests.masks import Masks

from .settings import Parameters, Settings

S = TypeVar("S", bound=Settings)

# An image's pixels, uint8 [H, W, 3] RGB, upright; checked against ``record.sha256``.
ReadImage = Callable[[ImageRecord], Any]
# An image's masks; each file checked against the digest that ``record.masks`` has.
ReadMasks = Callable[[ImageRecord], Masks]


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


def image_attrs(record: ImageRecord, count: int) -> dict[str, Any]:
    """Return the attributes that every image's object has; ``count`` is how many regions (maps, views) it holds."""
    return {"image": record.file_name, "image_sha256": record.sha256, "count": count}


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


@dataclass(frozen=True)
class DetectorRun:
    """One detector of the project as its last runs left it; for showing and comparing.

    Attributes:
        name, kind: of the detector.
        detections: the list of its detections, after combining.
        regions: the list of its region proposals.
        timings: of each of its nodes' last runs, by name.
        test_nodes: nodes that a new image passes, in order; trained_nodes: those that train.
        disk_bytes: of all objects of its own nodes in the store; None: not known.
        parameters: by group, as they are now.
        digests: sha256 of the files read, by their path.
    """

    name: str
    detections: Artifact
    kind: str = ""
    regions: Artifact | None = None
    timings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    test_nodes: Sequence[str] = ()
    trained_nodes: Sequence[str] = ()
    disk_bytes: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def classes(self) -> Sequence[str]:
        """The classes that it detects, in the order of its labels."""
        classes: Sequence[str] = self.detections.summary["classes"]
        return classes

    @property
    def images(self) -> Sequence[str]:
        """SHA-256 of each image that it searched, in the order of the artifact's entries."""
        images: Sequence[str] = self.detections.summary["images"]
        return images


class Context(Protocol):
    """What a stage sees of the world. Anything it did not declare raises ``LookupError``."""

    @property
    def node(self) -> "Node":
        """The declaration that is being run: its name, its stage's version, its paths."""

    @property
    def store(self) -> Store:
        """The store that objects are read from; writing is ``compute_images``'s and ``trained``'s, but for ``units``.

        That stage's one object is of all images, and the command's, too.
        """

    @property
    def log(self) -> Log:
        """Messages and progress, for the user. Each line is headed by the node's name."""

    @property
    def seed(self) -> int:
        """The pipeline's seed; derive others by ``numpy.random.SeedSequence([seed, ...])``."""

    @property
    def workers(self) -> int:
        """Threads for per-image work; never changes a result."""

    @property
    def device(self) -> str:
        """``auto``, ``cpu`` or ``cuda``: see :func:`stages.networks.forward.device_of`."""

    def settings(self, model: type[S]) -> S:
        """The validated parameters of one declared group, by the class that describes it."""

    def parameters(self) -> Mapping[str, Any]:
        """All declared parameters as JSON values, by group; for showing."""

    def has(self, name: str) -> bool:
        """Whether this node is given the stage's optional input ``name``."""

    def input(self, name: str) -> Path:
        """The path of one declared input file."""

    def shown(self, name: str) -> str:
        """The path of one declared input or output as a user knows it, relative to the project."""

    def output(self, name: str) -> Path:
        """Where to write one declared output: it does not exist yet, its folder does.

        What is written there replaces the former output only when the whole stage has succeeded.
        """

    def work_dir(self) -> Path:
        """A folder for checkpoints and other state that outlives a killed run; DVC never deletes it."""

    def timings(self) -> Mapping[str, Mapping[str, Any]]:
        """Seconds, peak memory and counts of each node's last run, by node name; for showing, never for computing."""

    def detectors(self) -> Sequence[DetectorRun]:
        """The detectors whose detections are inputs of this node (``compare``), the first one first."""

    def dataset(self) -> Dataset:
        """The dataset manifest (declared input ``manifest``)."""

    def artifact(self, name: str) -> Artifact:
        """The artifact manifest of a declared input, e.g. ``artifact("proposals")``."""

    @property
    def image(self) -> ReadImage:
        """Reads an image's pixels; can be part of a :class:`Compute`."""

    @property
    def masks(self) -> ReadMasks:
        """Reads an image's masks; can be part of a :class:`Compute`."""

    def compute_images(self, tasks: Sequence[ImageTask], compute: Compute, *, unit: str = "regions") -> list[str]:
        """Compute what the store lacks, where ``execution`` says; returns one key per task, in order."""

    def stored(self, tasks: Sequence[ImageTask], compute: type[Compute]) -> list[str | None]:
        """Tell which objects the store has: each task's key as ``compute_images`` names it, None where it lacks it."""

    def trained(self, params: Mapping[str, Any], inputs: Mapping[str, Any], train: Callable[[], None]) -> bool:
        """Take the outputs that the stage declares as trained from the store, or train them and put them there.

        Whatever the training alone needs is to be read and computed in ``train``: a stage whose result is in the store
        reads no object and computes none.

        Args:
            params: parameters that the result depends on, and only those.
            inputs: digests of what it is trained from, by name: of the training images alone, so that another test
                image trains nothing.
            train: writes every output in ``Stage.trained``; called where the store has no such result.

        Returns:
            Whether ``train`` was called.
        """

    def after_commit(self, action: Callable[[], None]) -> None:
        """Do something when every output is in place and durable: drop the checkpoints that led to them."""

    def publish(
        self, name: str, entries: Sequence[tuple[int, str]], summary: Mapping[str, Any], *, part: str | None = None
    ) -> None:
        """Write declared output ``name`` as an artifact manifest. ``summary`` must be deterministic (no times).

        A list has one object of each image. Where a stage has several of one, the output is a folder of lists, named by
        ``part``, which the stage makes.
        """


@dataclass(frozen=True)
class Stage:
    """What a stage is; ``stages/graph.py`` has them all.

    Attributes:
        name: also the namespace of its objects in the store.
        version: part of every key that the stage makes. Raise it when the same inputs give another result.
        run: ``"module:function"``, called with a :class:`Context`.
        settings: the groups of params.yaml that it owns, by their models.
        reads: further groups that it reads. A model of some of another group's parameters reads those alone.
        inputs: paths by a short name. ``${artifacts}``, ``${reports}``: the detector's folders; ``${dataset}``.
        outputs: likewise; ``${node}`` is the node's own folder below ``${artifacts}``.
        seeded: whether it draws, and so depends on ``seed``.
        reads_all: whether it shows every parameter of its detector.
        optional: inputs that a node may lack.
        trained: outputs that :meth:`Context.trained` keeps in the store.
        on_device: whether those are trained on ``execution.device``.
        metrics, plots: outputs that DVC shows as such.
        check: contradictions between parameters, one line each, told before anything is computed.
    """

    name: str
    version: int
    run: str
    settings: Mapping[str, type[Settings]] = field(default_factory=dict)
    reads: Mapping[str, type[Settings]] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    seeded: bool = False
    reads_all: bool = False
    optional: frozenset[str] = frozenset()
    trained: tuple[str, ...] = ()
    on_device: bool = False
    metrics: tuple[str, ...] = ()
    plots: tuple[str, ...] = ()
    check: Callable[[Parameters], Iterator[str]] | None = None

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of what it reads of params.yaml: ``seed``, whole groups, single parameters as ``group.name``."""
        names = ["seed"] if self.seeded else []
        names += self.settings
        for group, model in self.reads.items():
            names += [group] if model.whole else [f"{group}.{name}" for name in model.model_fields]
        return tuple(names)

    def load(self) -> Callable[[Context], None]:
        """Import what the stage runs."""
        module, _, function = self.run.partition(":")
        run: Callable[[Context], None] = getattr(importlib.import_module(module), function)
        return run


@dataclass(frozen=True)
class Node:
    """A stage in one place of a detector's graph, with the paths that it has there (``${dataset}`` still in them)."""

    name: str
    stage: Stage
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]

    @property
    def version(self) -> int:
        """The stage's."""
        return self.stage.version
