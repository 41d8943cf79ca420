"""Objects whose checksums are right and whose content means harm: refused in one line, with nothing outside read."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cache import Artifact, CorruptObjectError, Store, StoreError
from cache.digest import canonical_json
from cache.maintenance import verify
from cache.record import crc32c

HUGE = [10**15, 4]


def seal(store: Store, key: str, changes: dict[str, Any], files: dict[str, bytes]) -> None:
    """Change members of an object's record and its files, and make every checksum right again."""
    folder = store.path("features", key)
    body = json.loads((folder / "object.json").read_bytes()) | changes
    del body["checksum"]
    for name, data in files.items():
        (folder / name).chmod(0o644)
        (folder / name).write_bytes(data)
        body["files"][name] = {"nbytes": len(data), "crc32c": crc32c(data)}
    text = json.dumps(body | {"checksum": crc32c(canonical_json(body))}, indent=1, sort_keys=True) + "\n"
    (folder / "object.json").chmod(0o644)
    (folder / "object.json").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("name", ["../../../../../secret", "data.zarr/../../../../../../secret", "ABSOLUTE"])
def test_a_record_names_no_file_outside_its_object(store, samples, tmp_path, name):
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
def test_a_record_declares_no_array_that_was_not_written(store, samples, form, array):
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
def test_zarr_metadata_other_than_ours_is_damage(store, samples, changes):
    key = samples.put(store)
    seal(store, key, {}, zarr_meta(store, key, **changes))
    with pytest.raises(CorruptObjectError, match="not as it is written here"):
        store.get("features", key)


def test_a_chunk_that_declares_another_size_is_not_decompressed(store, samples):
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
def test_an_hdf5_payload_reads_no_other_file_and_no_more_than_it_holds(store, samples, tmp_path, fill):
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = np.zeros((40, 4), np.float32)
    key = samples.put(store, form="hdf5")
    with h5py.File(tmp_path / "made.h5", "w") as file:
        fill(file, other)
    seal(store, key, {}, {"data.h5": (tmp_path / "made.h5").read_bytes()})
    with pytest.raises(CorruptObjectError, match=r"data\.h5 is not as it is written here"):
        store.get("features", key, ["boxes"])


def test_brackets_within_brackets_are_refused_in_one_line(tmp_path):
    (tmp_path / "store.json").write_bytes(b"[" * 100_000)
    with pytest.raises(StoreError, match="not a store description"):
        Store(tmp_path)
    with pytest.raises(StoreError, match="not JSON"):
        Artifact.read(tmp_path / "store.json")
