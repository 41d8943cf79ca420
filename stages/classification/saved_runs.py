"""Runs of ``classify`` that were put aside: ``classification/saved/NAME.json``.

Such a file holds the lists of objects of one run, each as the run published it. It is an input, not a result: the
folder belongs into version control.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from cache import Artifact, StoreError, StoreVersionError
from cache.errors import StageError

VIEWS = "views"  # the list of crops and full pictures; dense views' are called as their scale
SAVE = "`dvc repro classification/dvc.yaml:classify` makes it, `rcnn classification save NAME` puts it aside"
_FORMAT = 1


def lists_of(folder: Path) -> dict[str, Artifact]:
    """Read the lists that a stage left in its folder; StageError where there are none, StoreError as ``read``."""
    path = folder / "manifest.json"
    if not path.exists():
        raise StageError(f"{path}: not found; `dvc repro classification/dvc.yaml:classify` makes it")
    return {VIEWS: Artifact.read(path)} | {one.stem: Artifact.read(one) for one in sorted(folder.glob("dense/*.json"))}


def saved_bytes(lists: Mapping[str, Artifact]) -> bytes:
    """Return the file of lists put aside: one line for each entry, so that diffs read well."""
    parts = ",\n".join(f"{json.dumps(name)}: {one.to_bytes().decode().rstrip()}" for name, one in lists.items())
    return f'{{"format": {_FORMAT}, "lists": {{\n{parts}\n}}}}\n'.encode()


def saved_run_names(folder: Path) -> list[str]:
    """The names in the folder, sorted; none where it is absent."""
    return sorted(path.stem for path in folder.glob("*.json") if path.is_file())


def read_lists(folder: Path, name: str) -> dict[str, Artifact]:
    """Read the lists saved under ``name``; StageError (unknown, or of another form), StoreVersionError."""
    path = folder / f"{name}.json"
    if not path.is_file():
        there = ", ".join(saved_run_names(folder)) or "none"
        raise StageError(f"{path}: no run is saved under this name (there are: {there}); {SAVE}")
    try:
        body = json.loads(path.read_bytes())
        if isinstance(body, dict) and isinstance(body.get("format"), int) and body["format"] > _FORMAT:
            raise StoreVersionError(f"{path}: a newer version of this program wrote it; update the program")
        lists = body["lists"].items()
        return {one: Artifact.from_bytes(json.dumps(value).encode(), f"{path}: {one}") for one, value in lists}
    except StoreVersionError:
        raise
    except (StoreError, OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise StageError(f"{path}: damaged, or no saved run; save it again by `rcnn classification save`") from None
