"""Objects whose checksums are right and whose content means harm: refused in one line, with nothing outside read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from store_samples import Samples

from cache import Artifact, CorruptObjectError, Payload, Recipe, Store, StoreError
from cache.maintenance import verify
from cache.recipe import Form
from cache.record import FileSpec, crc32c, sealed

HUGE = [10**15, 4]


def seal(store: Store, key: str, changes: dict[str, Any], files: dict[str, bytes]) -> None:
    """Change members of an object's record and its files, and make every checksum right again."""
    folder = store.path("features", key)
    body = json.loads((folder / "object.json").read_bytes()) | changes
    del body["checksum"]
    for name, data in files.items():
        (folder / name).chmod(0o644)
        (folder / name).write_bytes(data)
        body["files"][name] = body["files"].get(name, {}) | {"nbytes": len(data), "crc32c": crc32c(data)}
    (folder / "object.json").chmod(0o644)
    (folder / "object.json").write_bytes(sealed(body))


@pytest.mark.parametrize("name", ["../../../../../secret", "data.zarr/../../../../../../secret", "ABSOLUTE"])
def test_a_record_names_no_file_outside_its_object(store: Store, samples: Samples, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"not yours")
    key = samples.put(store)
    name = str(secret) if name == "ABSOLUTE" else name
    seal(store, key, {"files": {name: {"nbytes": 9, "crc32c": crc32c(b"not yours")}}}, {})
    assert "is no file of an object" in verify(store).problems[0].what
    with pytest.raises(CorruptObjectError, match="is no file of an object"):
        store.get("features", key)


@pytest.mark.parametrize("form", ["hdf5", "zarr"])
@pytest.mark.parametrize(
    "array",
    [
        {"shape": HUGE, "dtype": "<f4"},
        {"shape": [-1, 4], "dtype": "<f4"},
        {"shape": [40, 4], "dtype": "|O"},
        {"shape": [40, 4], "dtype": "<U99999999"},
        {"shape": [40, 4], "dtype": "(1000000000,)<f8"},
    ],
)
def test_a_record_declares_no_array_that_was_not_written(
    store: Store, samples: Samples, form: Form, array: dict[str, Any]
) -> None:
    key = samples.put(store, form=form)
    seal(store, key, {"arrays": {"boxes": array}}, {})
    with pytest.raises(CorruptObjectError, match="damaged"):
        store.get("features", key)


def zarr_meta(store: Store, key: str, **changes: Any) -> dict[str, bytes]:
    name = "data.zarr/boxes/zarr.json"
    meta = json.loads((store.path("features", key) / name).read_bytes())
    return {name: json.dumps(meta | changes).encode()}


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": HUGE},
        {"data_type": "float64"},
        {"codecs": [{"name": "../../x"}]},
        {"codecs": [{"name": "bytes"}, {"name": "zstd"}, {"name": "zstd"}]},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": HUGE}}},
        {"storage_transformers": [{"name": "x"}]},
        {"node_type": "group"},
    ],
)
def test_zarr_metadata_other_than_ours_is_damage(store: Store, samples: Samples, changes: dict[str, Any]) -> None:
    key = samples.put(store)
    seal(store, key, {}, zarr_meta(store, key, **changes))
    with pytest.raises(CorruptObjectError, match="not as it is written here"):
        store.get("features", key)


CHUNKED = np.zeros((600, 4096), np.float32)


@pytest.mark.parametrize(
    ("array", "file", "what"),
    [
        ({"chunk_rows": 8}, {}, "has 75 chunks and its file has others"),
        ({"chunk_rows": 0}, {}, "has 0 chunks and its file has others"),
        ({"chunk_rows": -16}, {}, "cannot have chunks of -16 rows"),
        ({"chunk_rows": True}, {}, "cannot have chunks of True rows"),
        ({"shape": [0, 4096]}, {}, "cannot have chunks of 16 rows"),
        ({}, {"chunk_nbytes": [1 << 40] * 38}, "other chunks than it holds"),
        ({}, {"chunk_nbytes": [-1] * 38}, "no sizes and checksums"),
        ({}, {"chunk_crc32c": []}, "other chunks than it holds"),
        # chunks that are there, but more rows than they hold
        ({"shape": [38 * 1024, 4096], "chunk_rows": 1024}, {}, "shape is"),
        ({"shape": [600, 4096 * 1024]}, {}, "shape is"),
    ],
)
def test_a_shard_declares_no_chunk_that_was_not_written(
    store: Store, array: dict[str, Any], file: dict[str, Any], what: str
) -> None:
    key = store.put(Recipe("features", 1, {}, {}), Payload({"fc7": CHUNKED}, {}, "zarr"))
    body = json.loads((store.path("features", key) / "object.json").read_bytes())
    assert body["arrays"]["fc7"]["chunk_rows"] == 16
    body["arrays"]["fc7"] |= array
    body["files"]["data.zarr/fc7/c/0/0"] |= file
    seal(store, key, {"arrays": body["arrays"], "files": body["files"]}, {})
    with pytest.raises(CorruptObjectError, match=what):
        store.get_rows("features", key, "fc7", 0, 20)


@pytest.mark.parametrize("whole", [True, False])
def test_a_chunk_in_a_shard_that_declares_another_size_is_not_decompressed(store: Store, whole: bool) -> None:
    key = store.put(Recipe("features", 1, {}, {}), Payload({"fc7": CHUNKED}, {}, "zarr"))
    name = "data.zarr/fc7/c/0/0"
    specs = json.loads((store.path("features", key) / "object.json").read_bytes())["files"]
    sizes = specs[name]["chunk_nbytes"]
    frame = b"\x28\xb5\x2f\xfd" + bytes([0b11100000]) + (1 << 40).to_bytes(8, "little") + b"\x01\x00\x00"
    data = frame + (store.path("features", key) / name).read_bytes()[sizes[0] :]
    changed = FileSpec.of(data, [len(frame), *sizes[1:]]).as_dict()
    seal(store, key, {"files": specs | {name: changed}}, {name: data})
    with pytest.raises(CorruptObjectError, match="declares 1099511627776 bytes, not 262144"):
        store.get("features", key) if whole else store.get_rows("features", key, "fc7", 3, 5)


def test_a_chunk_that_declares_another_size_is_not_decompressed(store: Store, samples: Samples) -> None:
    key = samples.put(store)
    name = "data.zarr/boxes/c/0/0"
    frame = b"\x28\xb5\x2f\xfd" + bytes([0b11100000]) + (1 << 40).to_bytes(8, "little") + b"\x01\x00\x00"
    seal(store, key, {}, {name: frame})
    with pytest.raises(CorruptObjectError, match="declares 1099511627776 bytes, not 640"):
        store.get("features", key)


def link_outside(file: h5py.File, other: Path) -> None:
    file["boxes"] = h5py.ExternalLink(str(other), "/x")


def keep_outside(file: h5py.File, other: Path) -> None:
    file.create_dataset("boxes", (40, 4), "f4", external=[(str(other), 0, h5py.h5f.UNLIMITED)])


def virtual(file: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout((40, 4), "f4")
    layout[...] = h5py.VirtualSource(str(other), "x", (40, 4))
    file.create_virtual_dataset("boxes", layout)


def bomb(file: h5py.File, other: Path) -> None:
    file.create_dataset("boxes", HUGE, "f4", chunks=(1, 4))


@pytest.mark.parametrize("fill", [link_outside, keep_outside, virtual, bomb])
def test_an_hdf5_payload_reads_no_other_file_and_no_more_than_it_holds(
    store: Store, samples: Samples, tmp_path: Path, fill: Callable[..., Any]
) -> None:
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = np.zeros((40, 4), np.float32)
    key = samples.put(store, form="hdf5")
    with h5py.File(tmp_path / "made.h5", "w") as file:
        fill(file, other)
    seal(store, key, {}, {"data.h5": (tmp_path / "made.h5").read_bytes()})
    with pytest.raises(CorruptObjectError, match=r"data\.h5 is not as it is written here"):
        store.get("features", key, ["boxes"])


def test_brackets_within_brackets_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_bytes(b"[" * 100_000)
    with pytest.raises(StoreError, match="not a store description"):
        Store(tmp_path)
    with pytest.raises(StoreError, match="not JSON"):
        Artifact.read(tmp_path / "store.json")
