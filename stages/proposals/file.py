"""Boxes that somebody else made: an HDF5 or npz file, as docs/proposal-file.md describes it.

The file is not trusted: shapes and dtypes are checked before anything is read, pickled objects are refused, and HDF5
links, virtual and external datasets (which reach into other files) are not followed.
"""

import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.errors import StageError
from cache.untrusted import NotPlainError, StoredArray, check_heaps, npz_arrays, plain_dataset, read_values
from manifests import ImageRecord
from stages.boxes.geometry import Boxes

MAX_BOXES = 1_000_000  # per image; more is a mistake or an attack
OUTSIDE_PX = 0.01  # rounding of other programs; such boxes are cut to the image
_MAX_LINES = 100


class _Problem(Exception):
    """What is wrong with one entry of the file."""


def read_proposal_file(
    path: str | Path, images: Sequence[ImageRecord], note: Callable[[str], None] = lambda line: None
) -> dict[int, Boxes]:
    """Boxes of every image by image id: float32 [n, 4], best first (by descending score where there are scores).

    ``note`` is told how many entries name no image of the run.

    Raises:
        StageError: all problems, one per line: not an HDF5 or npz file, an entry that names two images, images
            without an entry (and then entries that name none: alone, those may be of a split that is not used), wrong
            shapes or dtypes, NaN, inverted or empty boxes, boxes outside the image.
    """
    path = Path(path)
    problems: list[str] = []
    found: dict[int, Boxes] = {}
    with _entries(path) as entries:
        names = {name.partition("/")[2] for name in entries if name.startswith("boxes/")}
        for name in sorted(entries):
            if not name.startswith(("boxes/", "scores/")):
                problems.append(f"'{name}' is neither under boxes/ nor under scores/")
            elif name.startswith("scores/") and name.partition("/")[2] not in names:
                problems.append(f"'{name}' has no 'boxes/{name.partition('/')[2]}'")
        for record, name in _match(sorted(names), images, problems, note):
            try:
                found[record.id] = _boxes(record, entries[f"boxes/{name}"], entries.get(f"scores/{name}"))
            except _Problem as problem:
                problems.append(f"image '{name}': {problem}")
    if problems:
        shown = [f"{path}: {p}" for p in problems[:_MAX_LINES]]
        if len(problems) > _MAX_LINES:
            shown.append(f"{path}: and {len(problems) - _MAX_LINES} more problems")
        raise StageError("\n".join(shown))
    return found


def _match(
    names: Sequence[str], images: Sequence[ImageRecord], problems: list[str], note: Callable[[str], None]
) -> Iterator[tuple[ImageRecord, str]]:
    """Images and the one entry that names each, by name (file name without extension) or by id."""
    by_key: dict[str, list[ImageRecord]] = {}
    for record in images:
        for key in {record.name, str(record.id)}:
            by_key.setdefault(key, []).append(record)
    taken: dict[int, str] = {}
    strange = [name for name in names if name not in by_key]
    for name in names:
        records = by_key.get(name, [])
        if not records:
            continue
        if len(records) > 1:
            problems.append(f"'boxes/{name}' could be {' or '.join(r.file_name for r in records)}; use ids only")
        elif records[0].id in taken:
            problems.append(f"'boxes/{name}' and 'boxes/{taken[records[0].id]}' are the same image; keep one")
        else:
            taken[records[0].id] = name
            yield records[0], name
    named = {record.id for name in names for record in by_key.get(name, [])}
    absent = [record for record in images if record.id not in named]
    for record in absent:
        problems.append(
            f"image '{record.name}' (id {record.id}) has no entry; add 'boxes/{record.name}', [0, 4] if it has none"
        )
    if absent:  # then one of these may be meant for it; else they are images of splits that this run does not use
        problems += [f"'boxes/{name}' names no image of this run (use an image's id or its name)" for name in strange]
    elif strange:
        note(f"{len(strange)} entries of the proposal file name no image of this run, e.g. 'boxes/{strange[0]}'")


def _boxes(record: ImageRecord, boxes: StoredArray, scores: StoredArray | None) -> Boxes:
    if len(boxes.shape) != 2 or boxes.shape[1] != 4:
        raise _Problem(f"boxes have shape {list(boxes.shape)}, not [n, 4]")
    if boxes.dtype.kind not in "iuf":
        raise _Problem(f"boxes are {boxes.dtype}, not numbers")
    if boxes.shape[0] > MAX_BOXES:
        raise _Problem(f"{boxes.shape[0]} boxes, more than {MAX_BOXES}")
    values = _read(boxes).astype(np.float64)
    _check_values(record, values)
    if scores is not None:
        values = values[_best_first(scores, len(values))]
    values = np.clip(values, 0, [record.width, record.height, record.width, record.height])
    return values.astype(np.float32)


def _read(entry: StoredArray) -> NDArray[Any]:
    """The values; what a library says about damaged or strange bytes becomes one line."""
    try:
        return np.asarray(entry.read()).reshape(entry.shape)
    except Exception as error:
        raise _Problem(f"cannot be read ({_one_line(error)})") from error


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _check_values(record: ImageRecord, boxes: NDArray[np.float64]) -> None:
    checks = (
        (~np.isfinite(boxes).all(axis=1), "not finite"),
        ((boxes[:, 2:] <= boxes[:, :2]).any(axis=1), "inverted or empty (x1, y1, x2, y2; right and bottom exclusive)"),
        (
            (boxes[:, :2] < -OUTSIDE_PX).any(axis=1)
            | (boxes[:, 2:] > np.array([record.width, record.height]) + OUTSIDE_PX).any(axis=1),
            f"outside the {record.width} x {record.height} image",
        ),
    )
    bad = [
        f"{int(rows.sum())} boxes {what}, first in row {int(rows.argmax())}: {boxes[rows.argmax()].tolist()}"
        for rows, what in checks
        if rows.any()
    ]
    if bad:
        raise _Problem("; ".join(bad))


def _best_first(scores: StoredArray, n: int) -> NDArray[np.int64]:
    if scores.shape != (n,):
        raise _Problem(f"scores have shape {list(scores.shape)}, not [{n}]")
    if scores.dtype.kind not in "iuf":
        raise _Problem(f"scores are {scores.dtype}, not numbers")
    values = _read(scores).astype(np.float64)
    if not np.isfinite(values).all():
        raise _Problem("a score is not finite")
    return np.argsort(-values, kind="stable")


@contextmanager
def _entries(path: Path) -> Iterator[dict[str, StoredArray]]:
    """All arrays of the file by name ("boxes/000005"), open while the context is."""
    import h5py

    if not path.is_file():
        raise StageError(f"{path}: no such file; set proposals.file.path to an HDF5 or npz file")
    with ExitStack() as open_files:
        try:
            if h5py.is_hdf5(path):
                with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
                    check_heaps(data)
                entries = _hdf5_entries(path, open_files.enter_context(h5py.File(path, "r")))
            elif zipfile.is_zipfile(path):
                entries = npz_arrays(open_files.enter_context(zipfile.ZipFile(path)))
            else:
                raise StageError(f"{path}: neither HDF5 nor npz; see docs/proposal-file.md")
        except StageError:
            raise
        except Exception as error:  # HDF5 has no base class of its own for what damaged bytes lead to
            raise StageError(f"{path}: damaged ({_one_line(error)}); write the file again") from error
        yield entries


def _hdf5_entries(path: Path, file: Any) -> dict[str, StoredArray]:
    entries: dict[str, StoredArray] = {}
    for group in file:
        for name in file[group] if _is_group(file, group) else [""]:
            where = f"{group}/{name}".rstrip("/")
            try:
                if not name:
                    raise NotPlainError("is no group of arrays")
                data = plain_dataset(file[group], name)
            except NotPlainError as error:
                raise StageError(f"{path}: '{where}' {error}; see docs/proposal-file.md") from error
            entries[where] = StoredArray(data.shape or (), data.dtype, partial(read_values, data))
    return entries


def _is_group(file: Any, name: str) -> bool:
    """Whether the entry is a group and lives here, rather than behind a soft or external link."""
    import h5py

    return isinstance(file.get(name, getlink=True), h5py.HardLink) and isinstance(file[name], h5py.Group)
