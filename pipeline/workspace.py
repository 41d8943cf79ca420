"""What the command line finds in a project folder: its store, and the artifact manifests of its stages."""

import contextlib
from pathlib import Path
from typing import Any

from cache import Artifact, Store
from cache.errors import DatasetError
from manifests import load_registered, registered_names
from manifests.source import read_source
from stages.detections.saved import FOLDER, checked, saved_names, saved_path

from .context import store_root
from .params import load_params


def open_params(project: Path) -> Any:
    """The project's parsed parameters; :class:`ParamsError` where params.yaml is absent or wrong."""
    return load_params(project / "params.yaml")


def open_store(project: Path) -> Store:
    """The project's store."""
    return Store(store_root(project, open_params(project)))


def workspace_artifacts(project: Path) -> list[Artifact]:
    """The artifact manifests that the stages' last runs left in ``artifacts/<stage>/``, and the saved detections."""
    # detect's list is combine's too, where nothing is combined
    return list(dict.fromkeys([*stage_artifacts(project), *saved_detections(project).values()]))


def stage_artifacts(project: Path) -> list[Artifact]:
    """The artifact manifests that the stages' last runs left in ``artifacts/<stage>/``."""
    from .graph import all_stages

    paths = {project / p for s in all_stages().values() for p in s.outputs.values() if p.endswith("/manifest.json")}
    dataset_manifests = {project / "artifacts/manifest/manifest.json"}
    datasets = project / "artifacts" / "datasets"
    results = [p for p in sorted(paths - dataset_manifests) if p.exists() and datasets not in p.parents]
    return [Artifact.read(path) for path in results]


def saved_detections(project: Path) -> dict[Path, Artifact]:
    """What ``rcnn detections save`` has saved, by its file; StageError where a file is no such."""
    paths = [saved_path(project / FOLDER, name) for name in saved_names(project / FOLDER)]
    return {path: checked(path) for path in paths}


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
