"""Cached features as one file for other programs: a .npy matrix with an index beside it, or Parquet."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.outputs import OutputFolder

from .featureset import ImageFeatures, LayerView

Report = Callable[[int, int], None]  # images done, images in all


def index_name(matrix: str) -> str:
    """What :func:`export_npy` calls the file that says what the matrix's rows are: ``x.npy`` -> ``x.regions.npz``."""
    return str(Path(matrix).with_suffix(".regions.npz"))


def export_npy(view: LayerView, outputs: OutputFolder, name: str, classes: Sequence[str], report: Report) -> int:
    """Write [rows, d] as stored to the file ``name`` (``numpy.load(..., mmap_mode="r")``); returns the number of rows.

    Beside it, :func:`index_name` says of each row: ``image_id`` int64, ``row`` int64 in the image's object, ``boxes``
    float32 [rows, 4] (x1, y1, x2, y2 px, 0-based, right and bottom exclusive), ``is_gt`` bool, ``gt_class`` int64
    (index into ``classes``; -1: a proposal), ``difficult`` bool, ``overlaps`` float32 [rows, N] with each class
    (``ImageFeatures``). ``classes``: unicode [N]. One image is in memory at a time, and the index.
    """
    dtype, d = view.dtype_and_length()
    total = int(view.counts().sum())
    index: list[dict[str, NDArray[Any]]] = []
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (total, d)}
    with outputs.written_aside(name) as unfinished, outputs.written_aside(index_name(name)) as unfinished_index:
        with unfinished.open("wb") as file:
            # written, not mapped: a full disk is then an error and no SIGBUS
            np.lib.format.write_array_header_1_0(file, header)
            for done, image in enumerate(view, 1):
                file.write(np.ascontiguousarray(image.features).data)
                index.append(_index(image))
                report(done, len(view))
        with unfinished_index.open("wb") as file:
            joined = {column: np.concatenate([part[column] for part in index]) for column in index[0]}
            np.savez(file, classes=np.array(classes), **joined)  # type: ignore[arg-type]
    return total


def export_parquet(view: LayerView, outputs: OutputFolder, name: str, classes: Sequence[str], report: Report) -> int:
    """Write one Parquet file, a row group per image; returns the number of rows.

    Columns: those of :func:`export_npy`'s index, with ``x1``, ``y1``, ``x2``, ``y2`` for the boxes, and ``overlaps``
    and ``features`` as lists of fixed length (``features`` float16 or float32, as stored). The file's metadata holds
    ``classes`` as a JSON list.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    total = 0
    with outputs.written_aside(name) as unfinished:
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
