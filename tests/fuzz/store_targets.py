"""The store's own readers: store.json, object.json, HDF5 and zarr payloads, artifact manifests.

Since checksums would hide all that lies behind them, the record is made anew around a mutated file: what somebody could
write who means harm, rather than a broken disk.
"""

import contextlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mutations import JSON
from targets import Target, tolerant

_STAGE = "proposals"
_PATHS = ("../../../../outside", "/etc/hostname", "data.zarr/../../../x", "data.h5/x", "")


def sample_payload(form: str) -> Any:
    """A payload of a few small arrays of every kind."""
    from cache import Payload

    boxes = np.arange(8, dtype=np.float32).reshape(2, 4)
    arrays = {"boxes": boxes, "names": np.array(["a", "bc"]), "count": np.array(2), "empty": boxes[:0]}
    arrays["fc7"] = np.zeros((3, 100_000), np.uint8)  # in more than one chunk
    return Payload(arrays, {"image": "a.jpg", "count": 2}, form)  # type: ignore[arg-type]


def sample_recipe() -> Any:
    """What the object is made of."""
    from cache import Recipe

    return Recipe(_STAGE, 1, {"method": "x"}, {"image": "0" * 64})


def object_files(form: str) -> tuple[str, dict[str, bytes]]:
    """The key of an object with this payload, and its files."""
    from cache import record
    from cache.environment import present

    recipe = sample_recipe()
    return recipe.key, record.object_files(recipe, sample_payload(form), present())


def resealed(files: Mapping[str, bytes]) -> bytes:
    """The record of an object with the sizes and checksums of these files."""
    from cache.record import FileSpec

    body = json.loads(files["object.json"])
    chunks = {name: spec.get("chunk_nbytes", ()) for name, spec in body["files"].items()}
    specs = {n: FileSpec.of(d, chunks.get(n, ())).as_dict() for n, d in files.items() if n != "object.json"}
    return sealed(body | {"files": specs})


def sealed(body: Any) -> bytes:
    """A record with a right checksum."""
    from cache import record

    return record.sealed({k: v for k, v in body.items() if k != "checksum"})


class _Object:
    """One object of a store, put back to what a case wants of it."""

    def __init__(self, root: Path, form: str) -> None:
        from cache import Store

        self.store = Store(root / "store")
        self.key, self.files = object_files(form)
        self.folder = self.store.path(_STAGE, self.key)
        self._written: dict[str, bytes] = {}

    def write(self, files: Mapping[str, bytes]) -> None:
        """Make these the object's files."""
        if not self.folder.is_dir():  # in quarantine since the case before
            shutil.rmtree(Path(self.store.root) / "quarantine", ignore_errors=True)
            self._written = {}
        for name, data in files.items():
            if self._written.get(name) != data:
                path = self.folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                self._written[name] = data

    def read(self) -> None:
        """Check and read the object as ``rcnn cache verify`` and the stages do."""
        tolerant(lambda _: self.store.check(_STAGE, self.key))(b"")
        tolerant(lambda _: self.store.get_rows(_STAGE, self.key, "boxes", 0, 1))(b"")
        tolerant(lambda _: self.store.get_rows(_STAGE, self.key, "fc7", 1, 3))(b"")
        tolerant(lambda _: self.store.get(_STAGE, self.key))(b"")

    def list(self) -> None:
        """Go through the store as the other commands do."""
        from cache.listing import find
        from cache.maintenance import verify

        tolerant(lambda _: verify(self.store))(b"")
        tolerant(lambda _: find(self.store, self.key[:8]))(b"")
        tolerant(lambda _: self.store.describe(_STAGE, self.key))(b"")


def _record(root: Path) -> Callable[[bytes], None]:
    from cache import StoreError

    one = _Object(root, "zarr")

    def read(data: bytes) -> None:
        one.write(one.files | {"object.json": data})
        one.list()
        one.read()

    def run(data: bytes) -> None:
        read(data)
        again = b""
        with contextlib.suppress(ValueError, AttributeError, RecursionError, StoreError):
            again = sealed(json.loads(data))
        if again:
            read(again)

    return run


def _record_seeds() -> list[bytes]:
    valid = [object_files(form)[1]["object.json"] for form in ("hdf5", "zarr")]
    body = json.loads(valid[1])
    files = [sealed(body | {"files": {path: body["files"]["data.zarr/zarr.json"]}}) for path in _PATHS]
    shapes = ([10**15, 4], [10**9] * 4, [2, 10**12], [-1, 4], [2.5], "ab", None)
    arrays = [sealed(body | {"arrays": {"boxes": {"shape": shape, "dtype": "<f4"}}}) for shape in shapes]
    dtypes = ("O", "(1000000000,)f8", "V8", "<U999999999", "M8[s]", "f4,f4", "?", "")
    arrays += [sealed(body | {"arrays": {"boxes": {"shape": [2, 4], "dtype": dtype}}}) for dtype in dtypes]
    names = [sealed(body | {"arrays": {name: body["arrays"]["boxes"]}}) for name in ("../boxes", "/boxes", "")]
    chunked = body["arrays"]["fc7"]
    counts: tuple[Any, ...] = (1, -1, 10**9, True, 0.5, [])
    rows = [sealed(body | {"arrays": {"fc7": chunked | {"chunk_rows": n}}}) for n in counts]
    environments: tuple[Any, ...]
    environments = ({}, None, [], {"torch": 2}, {"torch": "x" * 10**6}, {"": "1"}, {"a": "b\n"}, {"a": {"b": "c"}})
    named = [sealed(body | {"environment": environment}) for environment in environments]
    named += [sealed(body | {"format": 2}), sealed(body | {"recipe": body["recipe"] | {"environment": "0" * 64}})]
    return [*valid, *files, *arrays, *names, *rows, *named]


def _hdf5(root: Path) -> Callable[[bytes], None]:
    one = _Object(root, "hdf5")

    def run(data: bytes) -> None:
        files = one.files | {"data.h5": data}
        one.write(files | {"object.json": resealed(files)})
        one.read()

    return run


def _hdf5_seeds() -> list[bytes]:
    from hostile_files import hostile_hdf5

    return [object_files("hdf5")[1]["data.h5"], *hostile_hdf5({"boxes": (2, 4), "names": (2,)})]


def _zarr(root: Path) -> Callable[[bytes], None]:
    """The first byte chooses the file of the object that the rest becomes."""
    one = _Object(root, "zarr")
    names = sorted(name for name in one.files if name != "object.json")

    def run(data: bytes) -> None:
        files = one.files | {names[data[0] % len(names)]: data[1:]} if data else one.files
        one.write(files | {"object.json": resealed(files)})
        one.read()

    return run


def _zarr_seeds() -> list[bytes]:
    files = object_files("zarr")[1]
    names = sorted(name for name in files if name != "object.json")
    valid = [bytes([i]) + files[name] for i, name in enumerate(names)]
    at = names.index("data.zarr/boxes/zarr.json")
    body = json.loads(files[names[at]])
    changes: list[dict[str, Any]] = [{"shape": [10**9, 10**9]}, {"shape": [10**5, 10**5]}, {"data_type": "object"}]
    changes += [{"codecs": [{"name": "../../x"}]}, {"codecs": []}, {"node_type": "group"}, {"zarr_format": 2}]
    changes += [{"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [10**5, 10**5]}}}]
    changes += [{"shape": [10**5, 10**5]} | changes[-1], {"storage_transformers": [{"name": "x"}]}]
    changes += [{"data_type": {"name": "fixed_length_utf32", "configuration": {"length_bytes": 4 << 30}}}]
    return valid + [bytes([at]) + json.dumps(body | change).encode() for change in changes]


def _artifact(root: Path) -> Callable[[bytes], None]:
    from cache import Artifact

    def read(data: bytes) -> None:
        (root / "manifest.json").write_bytes(data)
        found = Artifact.read(root / "manifest.json")
        found.write(root / "manifest.json")
        assert Artifact.read(root / "manifest.json") == found

    return tolerant(read)


def _artifact_seeds() -> list[bytes]:
    body = {"format": 1, "stage": "detect", "version": 1, "params": {"a": {"b": 1.5}}, "inputs": {"x": "0" * 64}}
    body |= {"entries": [[1, "a" * 64], [2, "b" * 64]], "summary": {"dataset": "d", "thresholds": {"cat": None}}}
    return [json.dumps(body).encode(), b"[" * 5000]


def _store_json(root: Path) -> Callable[[bytes], None]:
    from cache import Store

    def read(data: bytes) -> None:
        (root / "store.json").write_bytes(data)
        Store(root)

    return tolerant(read)


_TOKENS = (b'"format"', b'"boxes"', b"../", b"1e999", b"[" * 2000, b"9" * 5000)

STORE_TARGETS = (
    Target("store_json", _store_json, lambda: [b'{"format": 1}', b"[" * 5000, b'{"format": true}'], _TOKENS, JSON),
    Target("object_json", _record, _record_seeds, _TOKENS, JSON),
    Target("object_hdf5", _hdf5, _hdf5_seeds, (b"boxes", b"OHDR", b"TREE", b"SNOD", b"HEAP")),
    Target("object_zarr", _zarr, _zarr_seeds, (*_TOKENS, b'"codecs"', b'"zstd"', b'"shape"')),
    Target("artifact", _artifact, _artifact_seeds, _TOKENS, JSON),
)
