"""Datasets by name: ``artifacts/datasets/NAME/`` holds ``manifest.json``, and ``source.json``: where it came from."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cache.errors import DatasetError

from .dataset import Dataset, ImageRecord
from .files import write_with_folders
from .manifest_json import load_dataset, save_dataset
from .readers.coco import read_coco
from .readers.folders import read_folders
from .readers.ilsvrc import read_ilsvrc
from .readers.mask_folder import read_mask_folder
from .readers.options import ReadOptions
from .readers.panoptic import read_panoptic
from .readers.sbd import read_sbd_dataset
from .readers.voc import read_voc_masks
from .readers.yolo import read_yolo
from .source import HalvedSplit, Source, read_source

# What a reader returns: the dataset, the folder of its images, notes, and, fourth, that of its masks, if it has any.
Read = tuple[Dataset, Path, list[str]] | tuple[Dataset, Path, list[str], Path | None]
Reader = Callable[..., Read]
READERS: Mapping[str, Reader] = {
    "voc": read_voc_masks,
    "coco": read_coco,
    "yolo": read_yolo,
    "folders": read_folders,
    "ilsvrc": read_ilsvrc,
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
    source_format: str,
    path: str | Path,
    name: str,
    options: ReadOptions,
    artifacts_dir: str | Path,
    *,
    former: Registered | None = None,
) -> Registered:
    """Read ``path`` as one of :data:`READERS` and register it; DatasetError: all problems, and nothing registered.

    ``former``: the same dataset as it was read before, whose halves (:func:`put_into_halves`) its images keep.
    """
    check_name(name)
    if source_format not in READERS:
        raise DatasetError(f"format {source_format!r} is unknown; choose one of: {', '.join(READERS)}")
    if not Path(path).exists():
        raise DatasetError(f"{path}: there is no such file or folder; correct the path")
    path = Path(path).resolve()
    read = READERS[source_format](path, options, name=name)
    dataset, notes = read[0], read[2]
    halved: tuple[HalvedSplit, ...] = ()
    if former is not None:
        halved = former.source.halved
        dataset, told = _with_former_halves(dataset, former)
        notes = [*notes, *told]
    register(
        dataset,
        read[1],
        options.to_json(),
        artifacts_dir,
        source_format=source_format,
        path=path,
        notes=notes,
        masks=read[3] if len(read) == 4 else None,
        halved=halved,
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
    halved: Sequence[HalvedSplit] = (),
) -> Path:
    """Write a dataset's folder (over an older one of this name) and return it.

    ``options`` are JSON values; ``masks`` is the folder of the masks' files, if there are any. The manifest is
    written last: where it is there, its source is too.
    """
    check_name(dataset.name)
    folder = Path(artifacts_dir) / "datasets" / dataset.name
    source: dict[str, Any] = {
        "root": _portable(Path(root), folder),
        "format": source_format,
        "path": None if path is None else _portable(Path(path), folder),
        "options": dict(options),
        "notes": list(notes),
    } | ({} if masks is None else {"masks": _portable(Path(masks), folder)})
    if halved:
        source["halved"] = [one.to_json() for one in halved]
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
    former = load_registered(name, artifacts_dir)
    known = former.source
    if known.path is None or known.format not in READERS:
        raise DatasetError(f"dataset {name}: was made ({known.format}), not imported; make it again instead")
    options = ReadOptions.from_json(known.options)
    return import_dataset(known.format, known.path, name, options, artifacts_dir, former=former)


def put_into_halves(
    name: str,
    new_name: str,
    halved: HalvedSplit,
    members: tuple[frozenset[int], frozenset[int]],
    artifacts_dir: str | Path,
) -> Registered:
    """Put a registered dataset's images into two further splits, by their ids, and register it as ``new_name``.

    An image's own split becomes its half. Under its own name, ``rcnn dataset refresh`` keeps the halves.
    """
    known = load_registered(name, artifacts_dir)
    images = tuple(
        _in_half(image, [half for half, ids in zip(halved.names, members, strict=True) if image.id in ids])
        for image in known.dataset.images
    )
    source = known.source
    register(
        replace(known.dataset, name=new_name, images=images),
        source.root,
        source.options,
        artifacts_dir,
        source_format=source.format,
        path=source.path,
        notes=source.notes,
        masks=source.masks,
        halved=(*(one for one in source.halved if one.names != halved.names), halved),
    )
    return load_registered(new_name, artifacts_dir)


def _in_half(image: ImageRecord, halves: Sequence[str]) -> ImageRecord:
    """Add an image to its halves, one or both of a pair; the first then is the most specific of its splits."""
    return replace(image, split=halves[0], splits=(*image.splits, *halves)) if halves else image


def _with_former_halves(dataset: Dataset, former: Registered) -> tuple[Dataset, list[str]]:
    """Put the images of a dataset that is read again into the halves that they were in, and tell of all others."""
    notes = []
    splits_of = {image.file_name: image.splits for image in former.dataset.images}
    for halved in former.source.halved:
        if there := [name for name in halved.names if name in dataset.splits]:
            raise DatasetError(
                f"dataset {dataset.name}: the source has a split {there[0]!r} of its own now, and `rcnn dataset split` "
                "made one of this name; import the dataset again, and split it under other names"
            )
        images, lacking = [], 0
        for image in dataset.images:
            half = [name for name in halved.names if name in splits_of.get(image.file_name, ())]
            is_of = halved.of is None or halved.of in image.splits
            lacking += is_of and not half
            images.append(_in_half(image, half if is_of else []))
        dataset = replace(dataset, images=tuple(images))
        if lacking:
            notes.append(
                f"{lacking} images are new and in neither {halved.names[0]} nor {halved.names[1]}; import the dataset "
                "again and split it anew to share them out"
            )
    return dataset, notes


def check_name(name: str) -> None:
    """Raise DatasetError where no dataset can be called ``name``."""
    if not _NAME.fullmatch(name):
        raise DatasetError(
            f"dataset name {name!r}: use 1 to 64 letters, digits, '.', '_' and '-', starting with a letter or digit"
        )
