"""Cached features as one file for other programs: a .npy matrix with an index beside it, or Parquet."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.common.featureset import ImageFeatures, LayerView

Report = Callable[[int, int], None]  # images done, images in all


def index_path(matrix: Path) -> Path:
    """Where :func:`export_npy` writes what the matrix's rows are: ``x.npy`` -> ``x.regions.npz``."""
    return matrix.with_suffix(".regions.npz")


def export_npy(view: LayerView, path: Path, report: Report) -> int:
    """Write [rows, d] as stored to ``path`` (``numpy.load(path, mmap_mode="r")``); returns the number of rows.

    Beside it, :func:`index_path` says of each row: ``image_id`` int64, ``row`` int64 in the image's object, ``boxes``
    float32 [rows, 4] (x1, y1, x2, y2 px, 0-based, right and bottom exclusive), ``is_gt`` bool, ``gt_class`` int64
    (-1: a proposal), ``overlaps`` float32 [rows, N]. One image is in memory at a time, and the index.
    """
    dtype, d = view.form()
    total = int(view.counts().sum())
    index: list[dict[str, NDArray[Any]]] = []
    with _whole(path) as unfinished:
        matrix = np.lib.format.open_memmap(unfinished, "w+", dtype=dtype, shape=(total, d))
        at = 0
        for done, image in enumerate(view, 1):
            rows = len(image.boxes)
            matrix[at : at + rows] = image.features
            at += rows
            index.append(_index(image))
            report(done, len(view))
        matrix.flush()
        del matrix
        with _whole(index_path(path)) as unfinished_index, unfinished_index.open("wb") as file:
            np.savez(
                file, allow_pickle=False, **{name: np.concatenate([part[name] for part in index]) for name in index[0]}
            )
    return total


def export_parquet(view: LayerView, path: Path, report: Report) -> int:
    """Write one Parquet file, a row group per image; returns the number of rows.

    Columns: those of :func:`export_npy`'s index, with ``x1``, ``y1``, ``x2``, ``y2`` for the boxes, and ``overlaps``
    and ``features`` as lists of fixed length (``features`` float16 or float32, as stored).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    total = 0
    with _whole(path) as unfinished:
        writer: Any = None
        try:
            for done, image in enumerate(view, 1):
                columns = _index(image)
                boxes, overlaps = columns.pop("boxes"), columns.pop("overlaps")
                columns |= {name: boxes[:, i] for i, name in enumerate(("x1", "y1", "x2", "y2"))}
                lists = {"overlaps": overlaps, "features": image.features}
                table = pa.table({**columns, **{name: _fixed_lists(pa, rows) for name, rows in lists.items()}})
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
        "overlaps": image.overlaps,
    }


def _fixed_lists(pa: Any, rows: NDArray[Any]) -> Any:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows).reshape(-1)), rows.shape[1])


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A name to write under, moved to ``path`` at the end: so a file there is whole, and none is lost to a failure."""
    unfinished = path.with_name(path.name + ".partial")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
