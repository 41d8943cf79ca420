"""What is in a store: its objects one by one, and how much of the disk each stage and each result takes."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import record
from .artifact import Artifact
from .errors import StoreError
from .recipe import check_stage, is_key, is_stage
from .store import Store


@dataclass(frozen=True)
class ObjectInfo:
    """One object as it lies on disk. Times are seconds since the epoch."""

    stage: str
    key: str
    path: Path
    nbytes: int  # of all its files, object.json included
    files: int
    created: float
    used: float  # when it was last written or found present by a run
    image: str  # file name of its image; "" where the record is damaged or names none


@dataclass(frozen=True)
class Usage:
    """A number of objects and their bytes."""

    objects: int
    nbytes: int


@dataclass(frozen=True)
class ArtifactUsage:
    """One artifact manifest: what it refers to, and how many of those objects the store lacks."""

    artifact: Artifact
    dataset: str  # summary["dataset"], "" where the stage names none
    usage: Usage
    missing: int


@dataclass(frozen=True)
class Summary:
    """Disk usage of a store by stage and by artifact (one object may serve several), and what nothing refers to."""

    stages: dict[str, Usage]
    artifacts: tuple[ArtifactUsage, ...]
    unreferenced: dict[str, Usage]
    temporary: Usage
    quarantine: Usage


def object_folders(store: Store, stage: str | None = None) -> Iterator[tuple[str, str, Path]]:
    """(stage, key, folder) of every object, sorted; what is not laid out as an object is passed over."""
    if stage is not None:
        check_stage(stage)
    for stage_folder in entries(store.root / "objects"):
        if is_stage(stage_folder.name) and stage in (None, stage_folder.name):
            for shard in entries(stage_folder):
                for folder in entries(shard):
                    if is_key(folder.name) and folder.name[:2] == shard.name:
                        yield stage_folder.name, folder.name, folder


def iter_objects(store: Store, stage: str | None = None) -> Iterator[ObjectInfo]:
    """Every object, sorted by stage and key. One that is removed meanwhile is passed over."""
    for name, key, folder in object_folders(store, stage):
        try:
            yield _info(name, key, folder)
        except FileNotFoundError:
            continue


def find(store: Store, key_prefix: str) -> list[ObjectInfo]:
    """The objects whose key begins with ``key_prefix`` (lower-case hex), of any stage; StoreError if it is no such."""
    if not key_prefix or not is_key(key_prefix.ljust(64, "0")):
        raise StoreError(f"key {key_prefix!r}: not 1 to 64 lower-case hex digits; `rcnn cache ls` lists the keys")
    matches = (f for f in object_folders(store) if f[1].startswith(key_prefix))
    return [_info(stage, key, folder) for stage, key, folder in matches]


def summarise(store: Store, artifacts: Iterable[Artifact] = ()) -> Summary:
    """Add up the store by stage, and by the given artifacts together with all registered ones."""
    sizes = {(stage, key): disk_usage(folder) for stage, key, folder in object_folders(store)}
    known = sorted({*artifacts, *store.references().values()}, key=lambda a: (a.stage, a.digest))
    referenced = {(artifact.stage, key) for artifact in known for key in artifact.keys.values()}
    return Summary(
        stages=_by_stage(sizes),
        artifacts=tuple(_artifact_usage(artifact, sizes) for artifact in known),
        unreferenced=_by_stage({name: usage for name, usage in sizes.items() if name not in referenced}),
        temporary=disk_usage(store.root / "tmp", nested=True),
        quarantine=disk_usage(store.root / "quarantine", nested=True),
    )


def disk_usage(folder: Path, *, nested: bool = False) -> Usage:
    """Bytes of a folder's files, counted as one object (``nested``: as one per entry); absent is nothing."""
    nbytes = files = 0
    for path in _files(folder):
        try:
            nbytes += path.stat().st_size
            files += 1
        except FileNotFoundError:
            continue
    return Usage(len(entries(folder)) if nested else int(files > 0), nbytes)


def entries(folder: Path) -> list[Path]:
    """A folder's entries, sorted; none where it is absent or not a folder."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StoreError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error


def _files(folder: Path) -> list[Path]:
    return [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]


def _info(stage: str, key: str, folder: Path) -> ObjectInfo:
    used = created = folder.stat().st_mtime
    with contextlib.suppress(OSError):  # listing goes on; `verify` says what is wrong
        created = (folder / record.FILE).stat().st_mtime
    return ObjectInfo(
        stage=stage,
        key=key,
        path=folder,
        nbytes=disk_usage(folder).nbytes,
        files=len(_files(folder)),
        created=created,
        used=max(used, created),
        image=record.image_of(folder),
    )


def _by_stage(sizes: dict[tuple[str, str], Usage]) -> dict[str, Usage]:
    out: dict[str, Usage] = {}
    for (stage, _), usage in sizes.items():
        before = out.get(stage, Usage(0, 0))
        out[stage] = Usage(before.objects + 1, before.nbytes + usage.nbytes)
    return out


def _artifact_usage(artifact: Artifact, sizes: dict[tuple[str, str], Usage]) -> ArtifactUsage:
    keys = set(artifact.keys.values())
    present = [sizes[artifact.stage, key] for key in keys if (artifact.stage, key) in sizes]
    return ArtifactUsage(
        artifact=artifact,
        dataset=str(artifact.summary.get("dataset", "")),
        usage=Usage(len(present), sum(usage.nbytes for usage in present)),
        missing=len(keys) - len(present),
    )
