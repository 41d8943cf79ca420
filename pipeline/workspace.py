"""The detector that a command line was called for, and what it finds in the project: store, artifact manifests."""

import contextlib
from pathlib import Path

import click

from cache import Artifact, Store
from cache.errors import DatasetError, ParamsError
from manifests import Dataset, load_dataset, load_registered, registered_names
from manifests.source import read_source
from stages.classification.saved_runs import read_lists, saved_run_names
from stages.detections.saved import checked, saved_names, saved_path
from stages.graph import CURRENT_DATASET, ROOT, SAVED, SAVED_RUNS

from .context import store_root
from .detectors import Layout, layout_of
from .graph import object_lists, project_nodes
from .params import Params, load_params


def current_layout(project: Path) -> Layout:
    """Return the detector that the command line was called for: ``-d NAME``, the folder stood in, or the root's."""
    context = click.get_current_context(silent=True)
    name = ROOT if context is None else context.find_root().meta.get("detector", ROOT)
    return layout_of(project, name)


def open_params(project: Path) -> Params:
    """Return the parsed parameters of the detector meant; :class:`ParamsError` where params.yaml is absent or wrong."""
    return load_params(current_layout(project))


def open_store(project: Path) -> Store:
    """Return the project's store."""
    return Store(store_root(project, load_params(Layout(project))))


def workspace_artifacts(project: Path) -> list[Artifact]:
    """Read the artifact manifests that the last runs of all detectors left, and what was saved under a name."""
    saved = [artifact for lists in saved_results(project).values() for artifact in lists]
    # detect's list is combine's too, where nothing is combined
    return list(dict.fromkeys([*stage_artifacts(project), *saved]))


def current_dataset(project: Path) -> Dataset:
    """Read the dataset of the current run: the images and classes that stage ``manifest`` chose.

    ParamsError where it has not run.
    """
    path = project / CURRENT_DATASET
    if not path.exists():
        raise ParamsError(f"{path}: not found; `dvc repro manifest` makes it")
    return load_dataset(path)


def stage_artifacts(project: Path) -> list[Artifact]:
    """Read the artifact manifests that the last runs of all detectors left in ``artifacts/``."""
    datasets = project / "artifacts" / "datasets"
    paths = {project / path for node in project_nodes(project) for path in node.outputs.values()}
    dataset_manifest = project / CURRENT_DATASET
    lists = object_lists(path for path in sorted(paths) if datasets not in path.parents and path != dataset_manifest)
    return [Artifact.read(path) for path in lists]


def saved_detections(project: Path) -> dict[Path, Artifact]:
    """Read what ``rcnn detections save`` has saved, by its file; StageError where a file is no such."""
    paths = [saved_path(project / SAVED, name) for name in saved_names(project / SAVED)]
    return {path: checked(path) for path in paths}


def saved_results(project: Path) -> dict[Path, list[Artifact]]:
    """Read all that was saved under a name, detections and runs of classify, by its file; StageError as these."""
    folder = project / SAVED_RUNS
    runs = {folder / f"{name}.json": list(read_lists(folder, name).values()) for name in saved_run_names(folder)}
    return {path: [artifact] for path, artifact in saved_detections(project).items()} | runs


def untouchable(project: Path) -> dict[Path, str]:
    """Folders in which no command writes at the user's word, and what each is: results, and images of datasets.

    A dataset whose images lie above the project protects only the folders that hold images.
    """
    artifacts = project / "artifacts"
    found = {artifacts: "the project's own folder of results"}
    store = store_root(project, open_params(project))
    if isinstance(store, Path):
        found[store] = "the store of the project's results"
    for name in registered_names(artifacts):
        with contextlib.suppress(DatasetError):  # one that is damaged is no matter here
            for folder in _image_folders(name, artifacts, project.resolve()):
                found[folder] = f"the folder of dataset {name}'s images"
    return found


def _image_folders(name: str, artifacts: Path, project: Path) -> set[Path]:
    root = read_source(artifacts / "datasets" / name).root
    if not root.is_dir():  # an archive
        return set()
    if not project.is_relative_to(root):
        return {root}
    folders = {(root / image.file_name).parent for image in load_registered(name, artifacts).dataset.images}
    return {folder for folder in folders if not project.is_relative_to(folder)}
