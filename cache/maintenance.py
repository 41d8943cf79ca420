"""Keep a store sound and small: re-read everything, and remove what no result refers to."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import _fs, record
from .artifact import Artifact
from .errors import StoreError
from .listing import Usage, disk_usage, entries, object_folders
from .recipe import is_key, is_stage
from .store import Store

Progress = Callable[[int, int], None]  # (done, total)
DEFAULT_GRACE_S = 3600.0


@dataclass(frozen=True)
class Problem:
    """Something wrong with one object, or with an entry that is no object (``key`` is empty then)."""

    stage: str
    key: str
    image: str  # "" where the record does not tell
    what: str
    damaged: bool  # False: it could not be read, or does not belong there

    def __str__(self) -> str:
        image = f" (image {self.image})" if self.image else ""
        return f"{self.stage} object {self.key}{image}: {self.what}" if self.key else self.what


@dataclass(frozen=True)
class VerifyReport:
    """What ``verify`` read and found."""

    checked: Usage
    problems: tuple[Problem, ...]
    quarantined: int

    @property
    def damaged_stages(self) -> tuple[str, ...]:
        """The stages to recompute with ``dvc repro -f -s STAGE``, sorted."""
        return tuple(sorted({problem.stage for problem in self.problems if problem.damaged}))


def verify(
    store: Store, stage: str | None = None, progress: Progress | None = None, *, quarantine: bool = False
) -> VerifyReport:
    """Re-read every file of every object (of one stage, if given) and name each problem.

    With ``quarantine``, damaged objects are moved to ``quarantine/``, so that ``dvc repro -f -s STAGE`` computes them
    again; otherwise nothing is changed, and a stage that meets one moves it then.
    """
    folders = list(object_folders(store, stage))
    problems: list[Problem] = []
    nbytes = moved = 0
    for done, (name, key, folder) in enumerate(folders, 1):
        nbytes += disk_usage(folder).nbytes
        try:
            found = store.check(name, key)
        except StoreError as error:  # no permission, say: not the object's fault
            problems.append(Problem(name, key, record.image_of(folder), str(error), damaged=False))
            found = []
        if found and folder.exists():  # else gc or a quarantine took it meanwhile
            image = record.image_of(folder)
            problems += [Problem(name, key, image, what, damaged=True) for what in found]
            moved += quarantine and store.quarantine(name, key)
        if progress is not None:
            progress(done, len(folders))
    problems += [Problem("", "", "", f"{path}: does not belong to the store", False) for path in _strays(store, stage)]
    return VerifyReport(Usage(len(folders), nbytes), tuple(problems), moved)


@dataclass(frozen=True)
class Removal:
    """One thing that gc removes, or would. ``kind``: a stage's name, ``temporary``, ``quarantine``, ``reference``."""

    kind: str
    path: Path
    nbytes: int


@dataclass(frozen=True)
class GcReport:
    """What gc removed (``dry_run``: would remove), and how many objects it kept and why."""

    dry_run: bool
    removals: tuple[Removal, ...]
    referenced: int
    young: int  # referred to by nothing, but written or used within the grace period

    @property
    def nbytes(self) -> int:
        """Bytes freed."""
        return sum(removal.nbytes for removal in self.removals)

    @property
    def by_kind(self) -> dict[str, Usage]:
        """Number and bytes of the removals of each kind."""
        out: dict[str, Usage] = {}
        for removal in self.removals:
            before = out.get(removal.kind, Usage(0, 0))
            out[removal.kind] = Usage(before.objects + 1, before.nbytes + removal.nbytes)
        return out


def gc(
    store: Store,
    roots: Iterable[Artifact],
    *,
    dry_run: bool = True,
    grace_s: float = DEFAULT_GRACE_S,
    workspace_only: bool = False,
) -> GcReport:
    """Remove the objects that no artifact manifest refers to, and what dead processes left behind.

    Kept are the objects of ``roots`` (the workspace's manifests) and, unless ``workspace_only``, of every manifest ever
    registered, that is of all experiments; and whatever was written, or found present by a run, in the last ``grace_s``
    seconds. A run that is not through has registered what it is about to compute, so it may take longer than that.
    ``workspace_only`` removes the other manifests' references, too, once they are older than ``grace_s``. Temporaries
    and quarantined objects go after the same grace period.

    Raises StoreError, before anything is removed, if a registered manifest cannot be read.
    """
    roots = list(roots)
    references = store.references()
    deadline = time.time() - grace_s
    stale = _stale(references, roots, deadline) if workspace_only else []
    kept = [*roots, *(artifact for path, artifact in references.items() if path not in stale)]
    live = {(artifact.stage, key) for artifact in kept for key in artifact.keys.values()}
    removals: list[Removal] = []
    referenced = young = 0
    for stage, key, folder in object_folders(store):
        if (stage, key) in live:
            referenced += 1
        elif not _older(folder, deadline):
            young += 1
        else:
            removals.append(Removal(stage, folder, disk_usage(folder).nbytes))
    removals += _leftovers(store, deadline)
    removals += [Removal("reference", path, path.stat().st_size) for path in stale]
    if not dry_run:
        removals = [removal for removal in removals if _remove(store, removal, deadline)]
    return GcReport(dry_run, tuple(removals), referenced, young)


def _stale(references: Mapping[Path, Artifact], roots: Iterable[Artifact], deadline: float) -> list[Path]:
    """The references to other manifests than ``roots`` that are older than the deadline."""
    wanted = {artifact.digest for artifact in roots}
    return [p for p, artifact in references.items() if artifact.digest not in wanted and _older(p, deadline)]


def _leftovers(store: Store, deadline: float) -> Iterator[Removal]:
    """What killed processes and damage left behind, old enough to go."""
    partial = [path for folder in (store.root, store.root / "refs") for path in entries(folder)]
    places = {
        "temporary": [*entries(store.root / "tmp"), *(p for p in partial if p.name.endswith(".partial"))],
        "quarantine": entries(store.root / "quarantine"),
    }
    for kind, paths in places.items():
        for path in paths:
            if _older(path, deadline):
                nbytes = disk_usage(path).nbytes if path.is_dir() else path.stat().st_size
                yield Removal(kind, path, nbytes)


def _remove(store: Store, removal: Removal, deadline: float) -> bool:
    """Remove one thing; False if it is gone or was used since it was chosen."""
    if not _older(removal.path, deadline):
        return False
    with _fs.explained(f"removing {removal.path.name}", removal.path.parent):
        if removal.path.is_dir():
            # First out of sight in one step, so that no reader meets half an object.
            doomed = store.root / "tmp" / _fs.random_name()
            _fs.make_dirs(doomed.parent)
            if not _fs.move_away(removal.path, doomed):
                return False
            spared = not _older(doomed, deadline) and _fs.move_dir(doomed, removal.path)  # used at the last moment
            _fs.remove_tree(doomed)
            return not spared
        else:
            removal.path.unlink(missing_ok=True)
    return True


def _older(path: Path, deadline: float) -> bool:
    try:
        return path.stat().st_mtime < deadline
    except FileNotFoundError:
        return False


def _strays(store: Store, stage: str | None) -> Iterator[Path]:
    """Entries under ``objects/`` that are no objects."""
    for folder in entries(store.root / "objects"):
        if not is_stage(folder.name) or not folder.is_dir():
            yield folder
        elif stage in (None, folder.name):
            for shard in entries(folder):
                if not shard.is_dir():
                    yield shard
                yield from (p for p in entries(shard) if not is_key(p.name) or p.name[:2] != shard.name)
