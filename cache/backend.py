"""What a store needs of the place where it lies: a folder, or the URL of an object store."""

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .record import ObjectRecord, Span


@dataclass(frozen=True, slots=True)
class Stat:
    """Size and times (seconds since the epoch) of one entry. ``used``: last written, or found present by a run."""

    nbytes: int
    files: int
    created: float
    used: float


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in a store. ``kind``: an object's stage, or ``temporary``, ``quarantine``, ``reference``, ``stray``.

    ``key`` is empty for what is no object; ``name`` is the path under the root, with ``/``. ``stat`` is there where
    listing gave it for nothing; ``Backend.stat`` asks otherwise.
    """

    kind: str
    key: str
    name: str
    stat: Stat | None = None


class Backend(Protocol):
    """Where the objects of one store lie. Names are paths under the root, with ``/``.

    What does not exist raises FileNotFoundError; every other refusal is an OSError with a readable ``strerror``.
    All methods may be called by many threads and processes at once.
    """

    remedy: str  # what a person can do about an OSError
    marks_use: bool  # whether ``present`` leaves a time, which ``stat`` tells

    @property
    def root(self) -> Path | str:
        """The store's folder or URL."""

    def locate(self, name: str) -> Path | str:
        """The path or URL of a name."""

    def explained(self, doing: str) -> AbstractContextManager[None]:
        """Turn an OSError into one line: StoreFullError or StoreError; ``doing`` says what was going on."""

    def read(self, name: str) -> bytes:
        """Read a small file beside the objects."""

    def write(self, name: str, data: bytes) -> None:
        """Write or replace a small file: whole and durable, or not at all."""

    def entry(self, stage: str, key: str) -> Entry:
        """The entry of an object, there or not."""

    def names(self, folder: str) -> list[str]:
        """Sorted names of the entries of a folder; none where it is absent."""

    def has(self, stage: str, key: str) -> bool:
        """Whether the object was written."""

    def present(self, stage: str, keys: set[str]) -> set[str]:
        """Return the keys that were written, and mark them as in use if it can, which starts gc's grace period anew."""

    def record(self, stage: str, key: str) -> bytes:
        """Read the bytes of ``object.json``; DamagedRecordError where the rest of the object is there without it."""

    def files(self, found: ObjectRecord, wanted: Mapping[str, Span | None]) -> dict[str, bytes | None]:
        """Read some of an object's payload files, or a span of each, unchecked; None for one that is gone."""

    def everything(self, found: ObjectRecord) -> tuple[dict[str, bytes | None], list[str]]:
        """Read all payload files as ``files`` does, and name what else lies in the object's place, one line each."""

    def put(self, stage: str, key: str, files: Mapping[str, bytes]) -> None:
        """Make an object visible, whole and durable, where none was; one that another process puts is its equal."""

    def quarantine(self, stage: str, key: str) -> None:
        """Take an object out of sight into ``quarantine/``; nothing if it is gone."""

    def payload_path(self, found: ObjectRecord) -> str:
        """Path of what ``h5py.File`` or ``zarr.open`` opens; at a URL, of the archive that holds it."""

    def objects(self, stage: str | None = None) -> Iterator[Entry]:
        """Every object, sorted by stage and key."""

    def leftovers(self) -> Iterator[Entry]:
        """Everything that killed processes (``temporary``) and damage (``quarantine``) left behind."""

    def strays(self, stage: str | None = None) -> Iterator[Entry]:
        """Everything that lies among the objects and is none."""

    def stat(self, entry: Entry) -> Stat:
        """Size and times of an entry; FileNotFoundError if it is gone."""

    def image_of(self, entry: Entry) -> str:
        """The image that an object's record names, also where it is damaged; "" where that cannot be told."""

    def remove(self, entry: Entry, unused_since: float = math.inf) -> bool:
        """Remove an entry, out of every reader's sight in one step; False if it was gone, or used since that time."""
