"""Cached features as one file for other programs: a .npy matrix with an index beside it, or Parquet."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cache.errors import StageError

from .featureset import ImageFeatures, LayerView

Report = Callable[[int, int], None]  # images done, images in all


def index_path(matrix: Path) -> Path:
    """Where :func:`export_npy` writes what the matrix's rows are: ``x.npy`` -> ``x.regions.npz``."""
    return matrix.with_suffix(".regions.npz")


def export_npy(view: LayerView, path: Path, classes: Sequence[str], report: Report) -> int:
    """Write [rows, d] as stored to ``path`` (``numpy.load(path, mmap_mode="r")``); returns the number of rows.

    Beside it, :func:`index_path` says of each row: ``image_id`` int64, ``row`` int64 in the image's object, ``boxes``
    float32 [rows, 4] (x1, y1, x2, y2 px, 0-based, right and bottom exclusive), ``is_gt`` bool, ``gt_class`` int64
    (index into ``classes``; -1: a proposal), ``difficult`` bool, ``overlaps`` float32 [rows, N] with each class
    (``ImageFeatures``). ``classes``: unicode [N]. One image is in memory at a time, and the index.
    """
    dtype, d = view.dtype_and_length()
    total = int(view.counts().sum())
    index: list[dict[str, NDArray[Any]]] = []
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (total, d)}
    with _written_aside(path) as unfinished, _written_aside(index_path(path)) as unfinished_index:
        with unfinished.open("wb") as file:
            # written, not mapped: a full disk is then an error and no SIGBUS
            np.lib.format.write_array_header_1_0(file, header)
            for done, image in enumerate(view, 1):
                file.write(np.ascontiguousarray(image.features).data)
                index.append(_index(image))
                report(done, len(view))
            _flush(file)
        with unfinished_index.open("wb") as file:
            joined = {name: np.concatenate([part[name] for part in index]) for name in index[0]}
            np.savez(file, classes=np.array(classes), **joined)  # type: ignore[arg-type]
            _flush(file)
    return total


def export_parquet(view: LayerView, path: Path, classes: Sequence[str], report: Report) -> int:
    """Write one Parquet file, a row group per image; returns the number of rows.

    Columns: those of :func:`export_npy`'s index, with ``x1``, ``y1``, ``x2``, ``y2`` for the boxes, and ``overlaps``
    and ``features`` as lists of fixed length (``features`` float16 or float32, as stored). The file's metadata holds
    ``classes`` as a JSON list.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    total = 0
    with _written_aside(path) as unfinished:
        writer: Any = None
        try:
            for done, image in enumerate(view, 1):
                columns = _index(image)
                boxes, overlaps = columns.pop("boxes"), columns.pop("overlaps")
                columns |= {name: boxes[:, i] for i, name in enumerate(("x1", "y1", "x2", "y2"))}
                lists = {"overlaps": overlaps, "features": image.features}
                table = pa.table({**columns, **{name: _fixed_lists(pa, rows) for name, rows in lists.items()}})
                table = table.replace_schema_metadata({"classes": json.dumps(list(classes))})
                writer = writer or pq.ParquetWriter(unfinished, table.schema, compression="zstd")
                writer.write_table(table)
                total += len(boxes)
                report(done, len(view))
        finally:
            if writer is not None:
                writer.close()
    return total


def _index(image: ImageFeatures) -> dict[str, NDArray[Any]]:
    rows = len(image.boxes)
    return {
        "image_id": np.full(rows, image.image_id, np.int64),
        "row": np.arange(rows, dtype=np.int64),
        "boxes": image.boxes,
        "is_gt": image.is_gt,
        "gt_class": image.gt_class,
        "difficult": image.difficult,
        "overlaps": image.overlaps,
    }


def _fixed_lists(pa: Any, rows: NDArray[Any]) -> Any:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows).reshape(-1)), rows.shape[1])


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def _written_aside(path: Path) -> Iterator[Path]:
    """A name to write under, moved to ``path`` at the end: so a file there is whole, and none is lost to a failure."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        raise StageError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from error
    finally:
        unfinished.unlink(missing_ok=True)
