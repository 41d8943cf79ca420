"""Boxes and regions that somebody else made: an HDF5, npz or JSON file, as docs/proposal-file.md describes it.

The file is not trusted: shapes and dtypes are checked before anything is read, pickled objects are refused, and HDF5
links, virtual and external datasets (which reach into other files) are not followed.
"""

import math
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from manifests.masks import decode_rle
from stages.boxes.geometry import Boxes

from .given import GivenProposals, given_regions, regions_of_masks
from .region_json import read_region_json

MAX_BOXES = 1_000_000  # per image; more is a mistake or an attack
MAX_MEMBERS = 1 << 30  # regions times superpixels of one image, each a byte
OUTSIDE_PX = 0.01  # rounding of other programs; such boxes are cut to the image
_MAX_LINES = 100


class _Problem(Exception):
    """What is wrong with one entry of the file."""


def read_proposal_file(
    path: str | Path, images: Sequence[ImageRecord], note: Callable[[str], None] = lambda line: None
) -> dict[int, GivenProposals]:
    """Proposals of every image by image id, best first (by descending score where there are scores).

    ``note`` is told how many entries name no image of the run.

    Raises:
        StageError: all problems, one per line: not an HDF5, npz or JSON file, an entry that names two images, images
            without an entry (and then entries that name none: alone, those may be of a split that is not used), wrong
            shapes or dtypes, NaN, inverted or empty boxes, boxes outside the image, superpixels of another size than
            the image, run lengths that do not fit, regions without a pixel.
    """
    path = Path(path)
    problems: list[str] = []
    if path.suffix.lower() == ".json" and path.is_file():
        regions = read_region_json(path)
        found = _each(images, list(regions), "image_id ", lambda r, name: _drawn(r, regions[name]), problems, note)
    else:
        with _entries(path) as entries:
            names = sorted(_image_names(entries, problems))
            found = _each(images, names, "boxes/", lambda r, name: _given(r, name, entries), problems, note)
    if problems:
        shown = [f"{path}: {p}" for p in problems[:_MAX_LINES]]
        if len(problems) > _MAX_LINES:
            shown.append(f"{path}: and {len(problems) - _MAX_LINES} more problems")
        raise StageError("\n".join(shown))
    return found


def _each(
    images: Sequence[ImageRecord],
    names: Sequence[str],
    prefix: str,
    read: Callable[[ImageRecord, str], GivenProposals],
    problems: list[str],
    note: Callable[[str], None],
) -> dict[int, GivenProposals]:
    """Read every image's entry; what is wrong goes to ``problems``."""
    found = {}
    for record, name in _match(sorted(names), images, prefix, problems, note):
        try:
            found[record.id] = read(record, name)
        except _Problem as problem:
            problems.append(f"image '{name}': {problem}")
    return found


def _image_names(entries: Mapping[str, StoredArray], problems: list[str]) -> set[str]:
    """The images that a file's arrays name; an array of another kind, or without those it belongs to, is a problem."""
    of: dict[str, set[str]] = {kind: set() for kind in ("boxes", "scores", "superpixels", "members")}
    for name in sorted(entries):
        kind, _, image = name.partition("/")
        if kind not in of or not image:
            problems.append(f"'{name}' is neither under boxes/ nor under scores/ (nor superpixels/, members/)")
        else:
            of[kind].add(image)
    for kind, other in (("superpixels", "members"), ("members", "superpixels")):
        problems += [f"'{kind}/{image}' has no '{other}/{image}'" for image in sorted(of[kind] - of[other])]
    regions = of["superpixels"] & of["members"]
    problems += [
        f"'boxes/{image}' is beside 'superpixels/{image}', from whose regions the boxes follow; drop one"
        for image in sorted(of["boxes"] & regions)
    ]
    named = of["boxes"] | of["superpixels"] | of["members"]
    problems += [f"'scores/{image}' has no 'boxes/{image}'" for image in sorted(of["scores"] - named)]
    return of["boxes"] | regions


def _match(
    names: Sequence[str],
    images: Sequence[ImageRecord],
    prefix: str,
    problems: list[str],
    note: Callable[[str], None],
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
            problems.append(f"'{prefix}{name}' could be {' or '.join(r.file_name for r in records)}; use ids only")
        elif records[0].id in taken:
            problems.append(f"'{prefix}{name}' and '{prefix}{taken[records[0].id]}' are the same image; keep one")
        else:
            taken[records[0].id] = name
            yield records[0], name
    named = {record.id for name in names for record in by_key.get(name, [])}
    absent = [record for record in images if record.id not in named]
    for record in absent:
        none = "[0, 4]" if prefix == "boxes/" else "with segmentation null"
        add = f"add '{prefix}{record.name}', {none} if it has none"
        problems.append(f"image '{record.name}' (id {record.id}) has no entry; {add}")
    if absent:  # then one of these may be meant for it; else they are images of splits that this run does not use
        problems += [f"'{prefix}{name}' names no image of this run (use an image's id or its name)" for name in strange]
    elif strange:
        note(f"{len(strange)} entries of the proposal file name no image of this run, e.g. '{prefix}{strange[0]}'")


def _given(record: ImageRecord, name: str, entries: Mapping[str, StoredArray]) -> GivenProposals:
    """One image's boxes or regions."""
    scores = entries.get(f"scores/{name}")
    if (boxes := entries.get(f"boxes/{name}")) is not None:
        return GivenProposals(_boxes(record, boxes, scores))
    members = _members(entries[f"members/{name}"])
    superpixels = _superpixels(record, entries[f"superpixels/{name}"], members.shape[1])
    if scores is not None:
        members = members[_best_first(scores, len(members))]
    try:
        return given_regions(superpixels, members)
    except ValueError as error:
        raise _Problem(str(error)) from None


def _members(members: StoredArray) -> NDArray[np.bool_]:
    if len(members.shape) != 2 or members.dtype.kind not in "biu":
        raise _Problem(f"members are {members.dtype} {list(members.shape)}, not bool [regions, superpixels]")
    if members.shape[0] > MAX_BOXES or members.shape[0] * members.shape[1] > MAX_MEMBERS:
        raise _Problem(f"{members.shape[0]} regions of {members.shape[1]} superpixels, far too many")
    values = _read(members)
    if values.size and not 0 <= int(values.min()) <= int(values.max()) <= 1:
        raise _Problem("members hold other numbers than 0 and 1")
    return values.astype(bool)


def _superpixels(record: ImageRecord, superpixels: StoredArray, count: int) -> NDArray[np.int32]:
    if superpixels.shape != (record.height, record.width):
        raise _Problem(
            f"superpixels have shape {list(superpixels.shape)}, not [{record.height}, {record.width}] as the image has"
        )
    if superpixels.dtype.kind not in "iu":
        raise _Problem(f"superpixels are {superpixels.dtype}, not whole numbers")
    values = _read(superpixels)
    least, most = int(values.min()), int(values.max())
    if least < 0 or most >= count:
        hint = " (MATLAB counts from 1: subtract 1)" if least == 1 and most == count else ""
        raise _Problem(f"superpixels are numbered {least} to {most}, but members has columns 0 to {count - 1}{hint}")
    return values.astype(np.int32)


def _drawn(record: ImageRecord, rows: Sequence[Mapping[str, Any]]) -> GivenProposals:
    """One image's regions of a JSON file, best first."""
    scores = [row.get("score") for row in rows]
    known = [float(s) for s in scores if isinstance(s, int | float) and not isinstance(s, bool) and math.isfinite(s)]
    if len(known) != len(rows) and any(score is not None for score in scores):
        raise _Problem("a score is no finite number, or some regions have none")
    order = np.argsort(-np.array(known), kind="stable").tolist() if known else range(len(rows))
    masks = []
    for number in order:
        segmentation = rows[number]["segmentation"]
        try:
            if not isinstance(segmentation, Mapping):
                raise ValueError("its segmentation is no RLE")
            masks.append(decode_rle(segmentation, (record.height, record.width)))
        except ValueError as error:
            raise _Problem(f"region {number}: {error}") from None
    try:
        return regions_of_masks(masks, (record.height, record.width))
    except ValueError as error:
        raise _Problem(str(error)) from None


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
        raise StageError(f"{path}: no such file; set proposals.file.path to an HDF5, npz or JSON file")
    with ExitStack() as open_files:
        try:
            if h5py.is_hdf5(path):
                with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
                    check_heaps(data)
                entries = _hdf5_entries(path, open_files.enter_context(h5py.File(path, "r")))
            elif zipfile.is_zipfile(path):
                entries = npz_arrays(open_files.enter_context(zipfile.ZipFile(path)))
            else:
                raise StageError(f"{path}: neither HDF5 nor npz nor .json; see docs/proposal-file.md")
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
