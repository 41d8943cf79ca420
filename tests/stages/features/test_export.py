"""Exported files, read back with numpy and pyarrow alone, against the objects."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from cache import Artifact, Payload, Recipe, Store
from cache.outputs import RECORD, OutputFolder
from stages.features.export import export_npy, export_parquet, index_name
from stages.features.featureset import FeatureSet, LayerView


@pytest.fixture
def view(tmp_path: Path) -> LayerView:
    """Three images of 4, 0 and 3 regions, 2 classes and 5 units."""
    store, entries = Store(tmp_path / "store"), []
    rng = np.random.default_rng(0)
    for image_id, n in ((7, 4), (8, 0), (3, 3)):
        arrays = {
            "boxes": rng.random((n, 4), np.float32),
            "is_gt": np.arange(n) < 1,
            "gt_class": np.where(np.arange(n) < 1, 1, -1),
            "difficult": np.arange(n) == 2,
            "overlaps": rng.random((n, 2), np.float32),
            "fc7": rng.random((n, 5)).astype(np.float16),
        }
        attrs = {"image": f"{image_id}.jpg", "image_sha256": "0" * 64, "box_convention": "", "count": n}
        payload = Payload(arrays, attrs | {"ground_truth_count": min(n, 1)}, "zarr")
        entries.append((image_id, store.put(Recipe("features", 1, {}, {"image": image_id}), payload)))
    artifact = Artifact("features", 1, {}, {}, tuple(entries), {"layers": {"fc7": 5}})
    return FeatureSet(store, artifact).layer("fc7", read_ahead=1)


@pytest.fixture
def outputs(tmp_path: Path) -> OutputFolder:
    """A folder to write to."""
    folder = OutputFolder(tmp_path / "out", "")
    folder.prepare()
    return folder


def test_npy_is_the_rows_in_order_with_an_index(view: LayerView, outputs: OutputFolder, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    assert export_npy(view, outputs, "x.npy", ("cat", "dog"), lambda *at: seen.append(at)) == 7
    assert seen == [(1, 3), (2, 3), (3, 3)]
    matrix = np.load(tmp_path / "out/x.npy", mmap_mode="r")
    assert matrix.dtype == np.float16
    assert np.array_equal(matrix, np.concatenate([image.features for image in view]))
    with np.load(tmp_path / "out" / index_name("x.npy")) as index:
        assert index["image_id"].tolist() == [7] * 4 + [3] * 3
        assert index["classes"].tolist() == ["cat", "dog"]
        assert index["row"].tolist() == [0, 1, 2, 3, 0, 1, 2]
        for name in ("boxes", "is_gt", "gt_class", "difficult", "overlaps"):
            assert np.array_equal(index[name], np.concatenate([getattr(image, name) for image in view])), name
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [RECORD, "x.npy", "x.regions.npz"]


def test_parquet_holds_the_same(view: LayerView, outputs: OutputFolder, tmp_path: Path) -> None:
    assert export_parquet(view, outputs, "x.parquet", ("cat", "dog"), lambda *at: None) == 7
    table = pq.read_table(tmp_path / "out/x.parquet")
    boxes = ["x1", "y1", "x2", "y2"]
    first = ["image_id", "row", "is_gt", "gt_class", "difficult"]
    assert table.column_names == [*first, *boxes, "overlaps", "features"]
    assert table.schema.metadata == {b"classes": b'["cat", "dog"]'}
    features = np.stack(table["features"].to_pylist()).astype(np.float16)
    assert np.array_equal(features, np.concatenate([image.features for image in view]))
    corners = np.stack([table[name].to_numpy() for name in boxes], axis=1)
    assert np.array_equal(corners, np.concatenate([image.boxes for image in view]))
    assert table["image_id"].to_pylist() == [7] * 4 + [3] * 3


@pytest.mark.parametrize("export", [export_npy, export_parquet])
def test_a_failure_leaves_what_was_there(
    view: LayerView, outputs: OutputFolder, tmp_path: Path, export: Callable[..., Any]
) -> None:
    outputs.write("x.npy", b"before")

    def fail(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(view, outputs, "x.npy", (), fail)
    assert (tmp_path / "out/x.npy").read_bytes() == b"before"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [RECORD, "x.npy"]
