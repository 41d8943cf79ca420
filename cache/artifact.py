"""Artifact manifests: the small JSON file that a per-image stage hands to DVC instead of gigabytes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from .digest import digest_json, plain_json
from .errors import StoreError, StoreVersionError, remedy
from .files import atomic_write
from .recipe import check_key, check_stage

MANIFEST_FORMAT = 1
_FIELDS = frozenset({"format", "stage", "version", "params", "inputs", "entries", "summary"})


@dataclass(frozen=True, eq=False)
class Artifact:
    """Result of a stage: its settings, its inputs' digests, one (image id, key) per image, and a summary.

    Everything is copied and checked: JSON values only, image ids unique, keys well formed; StoreError says what is not.
    ``summary`` must be deterministic (no times), because DVC compares the file's bytes.
    """

    stage: str
    version: int
    params: Mapping[str, Any]
    inputs: Mapping[str, Any]
    entries: tuple[tuple[int, str], ...]
    summary: Mapping[str, Any]

    def __post_init__(self) -> None:
        check_stage(self.stage)
        where = f"artifact of {self.stage}"
        if isinstance(self.version, bool) or not isinstance(self.version, int):
            raise StoreError(f"{where}: version {self.version!r} is not an int")
        for name in ("params", "inputs", "summary"):
            value = plain_json(getattr(self, name), f"{where}: {name}")
            if not isinstance(value, dict):
                raise StoreError(f"{where}: {name} is a {type(value).__name__}, not a mapping")
            object.__setattr__(self, name, value)
        object.__setattr__(self, "entries", _checked_entries(self.entries, where))

    @cached_property
    def keys(self) -> dict[int, str]:
        """Key by image id, in the manifest's order."""
        return dict(self.entries)

    @property
    def unfinished(self) -> bool:
        """Whether it is a claim, which names what a run or a copy in progress is about to write."""
        return self.summary.get("unfinished") is True

    def as_claim(self) -> "Artifact":
        """The claim that a run registers before it writes these entries and takes back after: gc spares what it has."""
        return replace(self, params={}, inputs={}, summary={**self.summary, "unfinished": True})

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of the manifest's content."""
        return digest_json(self._as_dict())

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, Artifact) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def to_bytes(self) -> bytes:
        """The manifest's bytes; equal artifacts give equal bytes, one entry per line so that diffs read well."""
        body = self._as_dict()
        entries = body.pop("entries")
        head = json.dumps(body, indent=1, sort_keys=True)
        lines = ",\n".join(f"  {json.dumps(entry)}" for entry in entries)
        text = head.removesuffix("\n}") + ',\n "entries": [' + (f"\n{lines}\n ]" if entries else "]") + "\n}\n"
        return text.encode()

    def write(self, path: str | Path) -> None:
        """Write the manifest's file atomically."""
        atomic_write(path, self.to_bytes())

    @classmethod
    def read(cls, path: str | Path) -> "Artifact":
        """Read and check a manifest; StoreError (absent, malformed) or StoreVersionError (newer), naming the file."""
        path = Path(path)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise StoreError(f"{path}: no such artifact manifest; run `dvc repro`, which makes it") from error
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
        return cls.from_bytes(data, str(path))

    @classmethod
    def from_bytes(cls, data: bytes, path: str) -> "Artifact":
        """Check a manifest's bytes; raises as ``read``. ``path`` is only for the message."""
        try:
            body = json.loads(data)
        except (ValueError, RecursionError) as error:  # the latter: brackets within brackets by the thousand
            raise StoreError(f"{path}: not JSON ({error}); remove it and run `dvc repro`") from error
        version = body.get("format") if isinstance(body, dict) else None
        if isinstance(version, int) and version > MANIFEST_FORMAT:
            raise StoreVersionError(
                f"{path}: this manifest has format {version} and this program reads up to {MANIFEST_FORMAT}; "
                "update the program, or remove the file and run `dvc repro`"
            )
        if version != MANIFEST_FORMAT or set(body) != _FIELDS:
            raise StoreError(f"{path}: not an artifact manifest; remove it and run `dvc repro`")
        try:
            return cls(**{name: body[name] for name in _FIELDS - {"format"}})
        except StoreError as error:
            stage = body["stage"] if isinstance(body["stage"], str) else "STAGE"
            raise StoreError(f"{path}: {error}; {remedy(stage)}") from error

    def _as_dict(self) -> dict[str, Any]:
        return {
            "format": MANIFEST_FORMAT,
            "stage": self.stage,
            "version": self.version,
            "params": self.params,
            "inputs": self.inputs,
            "entries": [list(entry) for entry in self.entries],
            "summary": self.summary,
        }


def _checked_entries(entries: Any, where: str) -> tuple[tuple[int, str], ...]:
    if not isinstance(entries, list | tuple):
        raise StoreError(f"{where}: entries is a {type(entries).__name__}, not a list of (image id, key)")
    out: list[tuple[int, str]] = []
    for i, entry in enumerate(entries):
        if not isinstance(entry, list | tuple) or len(entry) != 2:
            raise StoreError(f"{where}: entries[{i}] is {entry!r}, not (image id, key)")
        image_id, key = entry
        if isinstance(image_id, bool) or not isinstance(image_id, int):
            raise StoreError(f"{where}: entries[{i}] has the image id {image_id!r}, not an int")
        check_key(key)
        out.append((int(image_id), key))
    if len({image_id for image_id, _ in out}) != len(out):
        ids = [image_id for image_id, _ in out]
        twice = next(image_id for image_id in ids if ids.count(image_id) > 1)
        raise StoreError(f"{where}: image {twice} is listed twice; one image has one object")
    return tuple(out)
