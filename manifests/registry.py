"""Datasets by name: ``artifacts/datasets/NAME/`` holds ``manifest.json``, and ``source.json``: where it came from."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.errors import DatasetError

from .dataset import Dataset
from .files import write_with_folders
from .manifest_json import load_dataset, save_dataset
from .readers.coco import read_coco
from .readers.folders import read_folders
from .readers.mask_folder import read_mask_folder
from .readers.options import ReadOptions
from .readers.panoptic import read_panoptic
from .readers.sbd import read_sbd_dataset
from .readers.voc import read_voc_masks
from .readers.yolo import read_yolo
from .source import Source, read_source

# What a reader returns: the dataset, the folder of its images, notes, and, fourth, that of its masks, if it has any.
Read = tuple[Dataset, Path, list[str]] | tuple[Dataset, Path, list[str], Path | None]
Reader = Callable[..., Read]
READERS: Mapping[str, Reader] = {
    "voc": read_voc_masks,
    "coco": read_coco,
    "yolo": read_yolo,
    "folders": read_folders,
    "panoptic": read_panoptic,
    "sbd": read_sbd_dataset,
    "masks": read_mask_folder,
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Registered:
    """A registered dataset's manifest, and its source."""

    dataset: Dataset
    source: Source


def import_dataset(
    source_format: str, path: str | Path, name: str, options: ReadOptions, artifacts_dir: str | Path
) -> Registered:
    """Read ``path`` as one of :data:`READERS` and register it; DatasetError: all problems, and nothing registered."""
    _check_name(name)
    if source_format not in READERS:
        raise DatasetError(f"format {source_format!r} is unknown; choose one of: {', '.join(READERS)}")
    if not Path(path).exists():
        raise DatasetError(f"{path}: there is no such file or folder; correct the path")
    path = Path(path).resolve()
    read = READERS[source_format](path, options, name=name)
    register(
        read[0],
        read[1],
        options.to_json(),
        artifacts_dir,
        source_format=source_format,
        path=path,
        notes=read[2],
        masks=read[3] if len(read) == 4 else None,
    )
    return load_registered(name, artifacts_dir)


def register(
    dataset: Dataset,
    root: str | Path,
    options: Mapping[str, Any],
    artifacts_dir: str | Path,
    *,
    source_format: str,
    path: str | Path | None = None,
    notes: Sequence[str] = (),
    masks: str | Path | None = None,
) -> Path:
    """Write a dataset's folder (over an older one of this name) and return it.

    ``options`` are JSON values; ``masks`` is the folder of the masks' files, if there are any. The manifest is
    written last: where it is there, its source is too.
    """
    _check_name(dataset.name)
    folder = Path(artifacts_dir) / "datasets" / dataset.name
    source = {
        "root": _portable(Path(root), folder),
        "format": source_format,
        "path": None if path is None else _portable(Path(path), folder),
        "options": dict(options),
        "notes": list(notes),
    } | ({} if masks is None else {"masks": _portable(Path(masks), folder)})
    write_with_folders(folder / "source.json", (json.dumps(source, indent=1, ensure_ascii=False) + "\n").encode())
    save_dataset(dataset, folder / "manifest.json")
    return folder


def registered_names(artifacts_dir: str | Path) -> list[str]:
    """Names of all registered datasets, sorted."""
    return sorted(p.parent.name for p in (Path(artifacts_dir) / "datasets").glob("*/manifest.json"))


def load_registered(name: str, artifacts_dir: str | Path) -> Registered:
    """Open a registered dataset; DatasetError naming those there are."""
    folder = Path(artifacts_dir) / "datasets" / name
    names = registered_names(artifacts_dir)
    if name not in names:
        there_are = ", ".join(names) or "none yet"
        raise DatasetError(f"dataset {name!r} is not registered; import it, or choose one of: {there_are}")
    return Registered(load_dataset(folder / "manifest.json"), read_source(folder))


def _portable(path: Path, folder: Path) -> str:
    """Relative to the registered folder where both are in one project, which then can be moved; else absolute."""
    path, project = path.resolve(), folder.resolve().parents[2]
    return os.path.relpath(path, folder.resolve()) if path.is_relative_to(project) else str(path)


def refresh(name: str, artifacts_dir: str | Path) -> Registered:
    """Read a dataset again from where it was imported, with the same options."""
    known = load_registered(name, artifacts_dir).source
    if known.path is None or known.format not in READERS:
        raise DatasetError(f"dataset {name}: was made ({known.format}), not imported; make it again instead")
    return import_dataset(known.format, known.path, name, ReadOptions.from_json(known.options), artifacts_dir)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise DatasetError(
            f"dataset name {name!r}: use 1 to 64 letters, digits, '.', '_' and '-', starting with a letter or digit"
        )
