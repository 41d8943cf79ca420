"""The :class:`stages.contract.Context` that a stage runs in."""

import contextlib
import functools
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cache import (
    Artifact,
    Payload,
    Recipe,
    Store,
    StorePermissionError,
    atomic_write,
    digest_file,
    make_dirs,
    sync,
    sync_tree,
)
from cache.cores import usable_cores
from cache.errors import ParamsError, StageError
from cache.experiments import original
from manifests import Dataset, ImageSource, load_dataset
from manifests.masks import read_masks
from stages.contract import Compute, DetectorRun, ImageTask, Node, ReadImage, ReadMasks, S
from stages.detections.saved import detector_input
from stages.graph import CHARACTERISTICS, SAVED, SAVED_RUNS

from .detector_runs import detector_runs
from .detectors import Layout
from .environments import Notice, environment_here
from .executor import Executor, Runner, Tally
from .graph import nodes_before
from .lists import Lists, NewLists
from .local import LocalRunner
from .params import Params, read_kind
from .progress import Reporter
from .read_only import require_all
from .timings import read_timings

PARTIAL = ".partial"  # the folder beside outputs in which they are written
_FORMER = ".former-"


def store_root(project: Path, params: Params) -> Path | str:
    """Where the store lies: RCNN_STORE where it is set, else ``store.root``.

    A folder (relative to the project), or a URL that fsspec knows. In DVC's copy of a project it is the project's own:
    what an experiment computes outlives the copy, and what is computed already is found.
    """
    named = os.environ.get("RCNN_STORE") or params.store.root
    # absolute: workers on other machines have other working folders
    if named.startswith("memory://"):
        raise ParamsError(f"store {named}: it would end with this process; name a folder or an object store's URL")
    return named if "://" in named else original(project).absolute() / named


def registered_folder(project: Path, dataset: str) -> Path:
    """Where ``rcnn dataset import`` keeps what it knows of a dataset."""
    return project / "artifacts" / "datasets" / dataset


class RunContext:
    """Gives one node what its stage declared, and nothing else; its outputs appear only when it has succeeded.

    ``nodes`` are all of its detector's, by name; ``lists`` takes its lists of objects (by default: new ones).
    """

    def __init__(
        self, node: Node, layout: Layout, params: Params, nodes: Mapping[str, Node], lists: Lists | None = None
    ) -> None:
        self.node = node
        self.layout = layout
        self.nodes = nodes
        self._project = layout.project
        self._params = params
        self.log = Reporter(node.name if layout.is_root else f"{layout.name} {node.name}")
        self.tally = Tally()
        self.published: str | None = None  # digest of the artifact manifest
        self._lists = lists or NewLists(self.log)
        self._writes = False  # whether the stage has asked where to write
        self._after_commit: list[Callable[[], None]] = []
        self.device = params.execution.device
        self.workers = params.execution.workers or usable_cores()
        self._images: ImageSource | None = None  # where the stage asked for images

    @cached_property
    def store(self) -> Store:
        return Store(store_root(self._project, self._params))

    @cached_property
    def _notice(self) -> Notice:
        return Notice(self.store, self.log)

    @property
    def seed(self) -> int:
        if not self.node.stage.seeded and not self.node.stage.reads_all:
            raise LookupError(f"stage {self.node.stage.name} does not declare that it reads the seed")
        return self._params.seed

    def settings(self, model: type[S]) -> S:
        stage = self.node.stage
        for group, declared in (*stage.settings.items(), *stage.reads.items()):
            if declared is model:
                return self._params.groups.of(group, model)
        raise LookupError(f"stage {stage.name} does not declare that it reads {model.__name__}")

    def parameters(self) -> Mapping[str, Any]:
        stage = self.node.stage
        if not stage.reads_all:
            return {name: _plain(_at(self._params, name)) for name in stage.parameters}
        names = ["dataset", "seed", *(name for name in self._params.groups.groups if name in self._read_by_all())]
        return {name: _plain(_at(self._params, name)) for name in names}

    def _read_by_all(self) -> set[str]:
        """Groups that lead to this node: the kind's, and those of the stages before it but the built-in dataset's."""
        before = [self.nodes[name] for name in nodes_before(self.node.name, self.nodes, self._params.dataset)]
        stages = {group for node in before if node.name != "scenes" for group in node.stage.settings}
        return stages | read_kind(self.layout).settings.keys()

    def work_dir(self) -> Path:
        folder = self.layout.checkpoints(self.node.name)
        make_dirs(folder)
        return folder

    def timings(self) -> Mapping[str, Mapping[str, Any]]:
        """Return those of the nodes that led to this one, in running order."""
        known = read_timings(Layout(self._project)) | read_timings(self.layout)
        names = nodes_before(self.node.name, self.nodes, self._params.dataset)
        return {name: known[name] for name in names if name in known}

    def has(self, name: str) -> bool:
        return name in self.node.inputs

    def shown(self, name: str) -> str:
        paths = self.node.inputs if name in self.node.inputs else self.node.outputs
        return paths[name].replace("${dataset}", self._params.dataset)

    def input(self, name: str) -> Path:
        path = self._declared(self.node.inputs, name)
        if not path.exists():
            raise StageError(self._missing_input(path))
        return path

    def output(self, name: str) -> Path:
        path = self._declared(self.node.outputs, name)
        partial = self._partial(path)
        self._writes = True
        make_dirs(partial.parent)
        return partial

    def detectors(self) -> list[DetectorRun]:
        mark = detector_input("")
        names = [name.removeprefix(mark) for name in self.node.inputs if name.startswith(mark)]
        return detector_runs(self._project, names, self.store)

    def dataset(self) -> Dataset:
        return self._dataset

    def artifact(self, name: str) -> Artifact:
        artifact = Artifact.read(self.input(name))
        self._notice.met(artifact.stage, artifact.keys.values())
        return artifact

    @property
    def image(self) -> ReadImage:
        return self._source().read

    @property
    def masks(self) -> ReadMasks:
        return functools.partial(read_masks, self._source(), category_ids=self.dataset().category_ids)

    def _source(self) -> ImageSource:
        if self._images is None:
            folder = registered_folder(self._project, self._params.dataset)
            self._images = ImageSource.registered(folder)
        return self._images

    def compute_images(self, tasks: Sequence[ImageTask], compute: Compute, *, unit: str = "regions") -> list[str]:
        tasks = [replace(task, recipe=self.named(task.recipe, on_device=compute.on_device)) for task in tasks]
        try:
            self.claim(tasks)
        except StorePermissionError as error:
            require_all(self.store, tasks, error)
        executor = Executor(self.store, self._runner(), self.log, self.tally, self.device, self._notice)
        return executor.compute(tasks, compute, unit=unit)

    def stored(self, tasks: Sequence[ImageTask], compute: type[Compute]) -> list[str | None]:
        recipes = [self.named(task.recipe, on_device=compute.on_device) for task in tasks]
        lacking = {
            key
            for stage in {one.stage for one in recipes}
            for key in self.store.missing(stage, [one.key for one in recipes if one.stage == stage])
        }
        return [None if one.key in lacking else one.key for one in recipes]

    def named(self, recipe: Recipe, *, on_device: bool) -> Recipe:
        """Return the recipe with this process's environment, where ``store.environment`` makes that part of the key.

        ``on_device``: whether a network computes the result, on ``execution.device``.
        """
        if self._params.store.environment == "record":
            return recipe
        return recipe.in_environment(environment_here(self.device if on_device else None).digest)

    def claim(self, tasks: Sequence[ImageTask]) -> None:
        """Say what is about to be computed. Raises StorePermissionError where this user may only read the store."""
        entries = tuple((task.image.id, task.recipe.key) for task in tasks)
        summary = {"dataset": self._params.dataset}
        coming = Artifact(self.node.stage.name, self.node.version, {}, {}, entries, summary)
        self._lists.claim(self.store, coming)

    def _runner(self) -> Runner:
        execution = self._params.execution
        if execution.backend == "local":
            return LocalRunner(self.workers)
        from .dask.runner import DaskRunner  # dask takes a second to import

        return DaskRunner(execution, self.log, images=self._images.root if self._images else None)

    def trained(self, params: Mapping[str, Any], inputs: Mapping[str, Any], train: Callable[[], None]) -> bool:
        stage = self.node.stage
        recipe = self.named(Recipe(stage.name, stage.version, params, inputs), on_device=stage.on_device)
        files = {name: Path(self.node.outputs[name]).name for name in stage.trained}
        there = self.store.has(stage.name, recipe.key)
        if there:
            arrays = self.store.get(stage.name, recipe.key).arrays
            for name, file in files.items():
                atomic_write(self.output(name), arrays[file].tobytes())
            self.tally.reused += 1
            self.log.info("trained before, from the same images with the same parameters: taken from the store")
        else:
            train()
            self._keep_trained(recipe, files)
        self.publish("trained", [(0, recipe.key)], {"files": sorted(files.values())})
        return not there

    def _keep_trained(self, recipe: Recipe, files: Mapping[str, str]) -> None:
        """Put the files just trained into the store by their names; one that may only be read stays as it is."""
        arrays = {file: np.fromfile(self.output(name), np.uint8) for name, file in files.items()}
        try:
            computed_by = environment_here(self.device if self.node.stage.on_device else None)
            self.store.put(recipe, Payload(arrays, {"count": 0}, "hdf5"), computed_by)
            self.tally.computed += 1
        except StorePermissionError:
            self.log.warning(
                f"{self.store.root}: this user may only read this store; what was trained is not kept there"
            )

    def after_commit(self, action: Callable[[], None]) -> None:
        self._after_commit.append(action)

    def publish(
        self, name: str, entries: Sequence[tuple[int, str]], summary: Mapping[str, Any], *, part: str | None = None
    ) -> None:
        artifact = self.made(entries, summary)

        def place() -> Path:
            return self.output(name) if part is None else self.output(name) / f"{part}.json"

        self._lists.publish(self.store, artifact, place, computed=self.tally.computed > 0)
        if name != "trained" and part is None:
            self.published = artifact.digest

    def made(self, entries: Sequence[tuple[int, str]], summary: Mapping[str, Any]) -> Artifact:
        """The artifact manifest of these results, with the parameters and inputs that hold at present."""
        return Artifact(
            stage=self.node.stage.name,
            version=self.node.version,
            params=dict(self.parameters()),
            inputs={key: digest_file(path) for key, path in self._input_files()},
            entries=tuple(entries),
            summary=dict(summary, dataset=self._params.dataset),
        )

    def begin_anew(self) -> None:
        """Forget what the stage has counted and written so far; what it computed is in the store."""
        self.tally.reused = 0
        if self._writes:  # else what lies half-written is another run's
            self.discard_partial()

    def discard_partial(self) -> None:
        """Remove whatever a failed or killed run of this stage left half-written, its own temporaries included."""
        for folder in {self._partial(final).parent for final in self._finals()}:
            _remove(folder)
            with contextlib.suppress(OSError):  # absent, or another stage is writing there
                folder.parent.rmdir()

    def commit(self) -> None:
        """Put every output in place, durable first. Raises TypeError when the stage left one unwritten.

        At a crash or a loss of power each output is the former one, absent (a folder only), or the new one, and whole.
        """
        finals = self._finals()
        for final in finals:
            if not self._partial(final).exists():
                raise TypeError(f"stage {self.node.name} did not write its output {final}")
        for final in finals:
            sync_tree(self._partial(final))
        for final in finals:
            partial = self._partial(final)
            if partial.is_dir() and final.exists():  # a folder cannot be replaced in one step, nor removed
                final.replace(partial.with_name(f"{_FORMER}{final.name}"))
            partial.replace(final)
        for folder in {final.parent for final in finals}:
            sync(folder)
        self.discard_partial()
        for action in self._after_commit:
            action()

    @cached_property
    def _dataset(self) -> Dataset:
        return load_dataset(self.input("manifest"))

    def _input_files(self) -> list[tuple[str, Path]]:
        return [(n, p) for n in self.node.inputs if (p := self._declared(self.node.inputs, n)).is_file()]

    def _declared(self, paths: Mapping[str, str], name: str) -> Path:
        if name not in paths:
            raise LookupError(f"stage {self.node.stage.name} does not declare {name!r}")
        return self._path(paths[name])

    def _path(self, template: str) -> Path:
        return self._project / template.replace("${dataset}", self._params.dataset)

    def _finals(self) -> list[Path]:
        return [self._path(path) for path in self.node.outputs.values()]

    def _partial(self, final: Path) -> Path:
        """Where an output is written; the stage's own folder, on the file system of the output."""
        return final.parent / PARTIAL / self.node.name / final.name

    def _missing_input(self, path: Path) -> str:
        if path == self._project / SAVED:
            return f"{path}: not found; no detections are saved: `rcnn detections save NAME` does it"
        if path == self._project / SAVED_RUNS:
            return f"{path}: not found; no run is saved: `rcnn classification save NAME` does it"
        if path == self._project / CHARACTERISTICS:
            return f"{path}: not found; put the table that diagnose.characteristics names there (docs/analysis.md)"
        registered = registered_folder(self._project, self._params.dataset)
        if path == registered or registered in path.parents:
            name = self._params.dataset
            how = (
                "`dvc repro manifest`"
                if name == "scenes"
                else f"`rcnn dataset import voc|coco|yolo|folders PATH --name {name}`"
            )
            return f"{path}: dataset {name!r} is not registered; run {how}"
        file = "" if self.layout.is_root else f"{self.layout.dvc_file.relative_to(self._project)}:"
        return f"{path}: not found; an earlier stage makes it: run `dvc repro {file}{self.node.name}`"


def _at(params: Any, name: str) -> Any:
    """The group or parameter of a dotted name."""
    return functools.reduce(getattr, name.split("."), params)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
