"""Keep a store sound and small: re-read everything, and remove what no result refers to."""

import math
import time
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass

from .artifact import Artifact
from .backend import Entry
from .errors import StoreError
from .listing import Usage, entries, keys_by_stage, total, usage
from .store import Store

Progress = Callable[[int, int], None]  # (done, total)
DEFAULT_GRACE_S = 3600.0
_CLAIM_S = 7 * 86400.0  # no run takes longer; the claim of one that was killed protects what it computed for so long


@dataclass(frozen=True)
class Problem:
    """Trouble with one object, or with an entry that is no object (``key`` is empty then)."""

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
    """Figures and findings of one ``verify``."""

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
    found = list(entries(store, stage))
    problems: list[Problem] = []
    nbytes = moved = 0
    for done, entry in enumerate(found, 1):
        nbytes += usage(store, entry).nbytes
        try:
            wrong = store.check(entry.kind, entry.key)
        except StoreError as error:  # no permission, say: not the object's fault
            problems.append(Problem(entry.kind, entry.key, store.backend.image_of(entry), str(error), damaged=False))
            wrong = []
        if wrong and usage(store, entry).objects:  # else gc or a quarantine took it meanwhile
            image = store.backend.image_of(entry)
            problems += [Problem(entry.kind, entry.key, image, what, damaged=True) for what in wrong]
            moved += quarantine and store.quarantine(entry.kind, entry.key)
        if progress is not None:
            progress(done, len(found))
    strays = (store.backend.locate(entry.name) for entry in store.backend.strays(stage))
    problems += [Problem("", "", "", f"{path}: does not belong to the store", False) for path in strays]
    try:
        store.references()
    except StoreError as error:
        problems.append(Problem("", "", "", str(error), damaged=False))
    return VerifyReport(Usage(len(found), nbytes), tuple(problems), moved)


@dataclass(frozen=True)
class Removal:
    """One entry that gc removes, or would."""

    entry: Entry
    nbytes: int

    @property
    def kind(self) -> str:
        """A stage's name, ``temporary``, ``quarantine`` or ``reference``."""
        return self.entry.kind


@dataclass(frozen=True)
class GcReport:
    """Removals of one gc (``dry_run``: those it would make), and how many objects it kept and why."""

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
            out[removal.kind] = total((out.get(removal.kind, Usage(0, 0)), Usage(1, removal.nbytes)))
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
    ``workspace_only`` removes the other manifests' references, too, once they are older than ``grace_s``, and claims of
    runs that were killed a week ago and never started again. Temporaries
    and quarantined objects go after the same grace period.

    Raises StoreError, before anything is removed, if a registered manifest cannot be read.
    """
    roots = list(roots)
    references = store.references()
    deadline = time.time() - grace_s
    stale = _stale(store, references, roots, deadline) if workspace_only else []
    spared = {entry.name for entry in stale}
    live = keys_by_stage([*roots, *(artifact for name, artifact in references.items() if name not in spared)])
    doomed: list[Entry] = []
    referenced = young = 0
    for entry in entries(store):
        if bytes.fromhex(entry.key) in live.get(entry.kind, ()):
            referenced += 1
        elif not _older(store, entry, deadline):
            young += 1
        else:
            doomed.append(entry)
    doomed += [entry for entry in store.backend.leftovers() if _older(store, entry, deadline)]
    doomed += stale
    removals = [Removal(entry, usage(store, entry).nbytes) for entry in doomed]
    if not dry_run:
        claimed = _NewClaims(store, set(references))
        removals = [r for r in removals if r.entry not in claimed and _remove(store, r.entry, deadline)]
    return GcReport(dry_run, tuple(removals), referenced, young)


class _NewClaims(Container[Entry]):
    """The objects that runs have claimed since gc began, which may have found them present.

    Looked up every second, or each time where nothing else tells of an object's use.
    """

    def __init__(self, store: Store, known: set[str]) -> None:
        self._store, self._known = store, known
        self._keys: dict[str, set[bytes]] = {}
        self._looked = -math.inf

    def __contains__(self, entry: object) -> bool:
        if not self._store.backend.marks_use or time.monotonic() - self._looked > 1.0:
            self._looked = time.monotonic()
            new = self._store.references(skip=self._known)
            self._known |= new.keys()
            for stage, keys in keys_by_stage(new.values()).items():
                self._keys.setdefault(stage, set()).update(keys)
        return isinstance(entry, Entry) and bytes.fromhex(entry.key) in self._keys.get(entry.kind, ())


def _stale(store: Store, references: Mapping[str, Artifact], roots: Iterable[Artifact], deadline: float) -> list[Entry]:
    """List the references to other manifests than ``roots`` that are older than the deadline; claims much older."""
    wanted = {artifact.digest for artifact in roots}
    others = {name: artifact.unfinished for name, artifact in references.items() if artifact.digest not in wanted}
    until = {False: deadline, True: min(deadline, time.time() - _CLAIM_S)}
    named = {Entry("reference", "", name): until[unfinished] for name, unfinished in others.items()}
    return [entry for entry, limit in named.items() if _older(store, entry, limit)]


def _remove(store: Store, entry: Entry, deadline: float) -> bool:
    """Remove one entry; False if it is gone or was used since it was chosen."""
    with store.backend.explained(f"removing {entry.key or entry.name}"):
        return _older(store, entry, deadline) and store.backend.remove(entry, deadline)


def _older(store: Store, entry: Entry, deadline: float) -> bool:
    try:
        return store.backend.stat(entry).used < deadline
    except FileNotFoundError:
        return False
