"""An object's record names what computed it: read back as it was, part of the key on demand, unknown in old objects."""

import json
import pickle
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import Samples

from cache import Artifact, CorruptObjectError, Payload, Recipe, Store, StoreError
from cache.environment import LIBRARIES, NAMES, Environment, present
from cache.listing import environments
from cache.maintenance import verify
from cache.record import DamagedRecordError, ObjectRecord, environment_in, object_files, sealed
from cache.transfer import copy

# An object's record as version 0.1 wrote it, before records named their environment.
OLD_RECORD = b"""{
 "arrays": {
  "boxes": {
   "dtype": "<f4",
   "shape": [
    2,
    4
   ]
  }
 },
 "attrs": {
  "count": 2,
  "image": "a.jpg"
 },
 "files": {
  "data.h5": {
   "crc32c": "21a0ed03",
   "nbytes": 6176
  }
 },
 "form": "hdf5",
 "format": 2,
 "key": "5994726b43e608bcf9c56ef40cef9df4643a6d591c601b36719246c968561cda",
 "recipe": {
  "inputs": {
   "image": "0000000000000000000000000000000000000000000000000000000000000000"
  },
  "params": {
   "m": "fast"
  },
  "stage": "proposals",
  "version": 1
 },
 "checksum": "941921f8"
}
"""
OLD_KEY = "5994726b43e608bcf9c56ef40cef9df4643a6d591c601b36719246c968561cda"
RECIPE = Recipe("proposals", 1, {"m": "fast"}, {"image": "0" * 64})
PAYLOAD = Payload({"boxes": np.zeros((2, 4), np.float32)}, {"image": "a.jpg", "count": 2}, "hdf5")
TEXT = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)
ENVIRONMENTS = st.dictionaries(TEXT, TEXT, min_size=1, max_size=9).map(Environment.from_json)


def other(**changes: str) -> Environment:
    return Environment.from_json({**present().as_json(), **changes})


@given(environment=ENVIRONMENTS, named=st.booleans())
@settings(deadline=None, max_examples=60)
def test_a_record_gives_back_the_environment_it_was_written_with(environment: Environment, named: bool) -> None:
    recipe = RECIPE.in_environment(environment.digest) if named else RECIPE
    record = object_files(recipe, PAYLOAD, environment)["object.json"]
    found = ObjectRecord.from_bytes(record)
    assert (found.environment, found.recipe, found.to_bytes()) == (environment, recipe, record)
    assert hash(found.environment) == hash(environment)
    assert pickle.loads(pickle.dumps(environment)).digest == environment.digest
    if not any(bracket in str(environment) for bracket in "{}"):
        assert environment_in(record) == environment
    assert json.loads(record)["environment"] == environment.as_json()


def test_an_old_record_is_read_as_before() -> None:
    found = ObjectRecord.from_bytes(OLD_RECORD)
    assert (found.environment, found.recipe.key, found.to_bytes()) == (None, OLD_KEY, OLD_RECORD)
    assert environment_in(OLD_RECORD) is None
    assert RECIPE.key == OLD_KEY  # a key that nothing is added to stays


def test_an_old_object_is_read_verified_and_copied_wherever_it_lies(root: str, tmp_path: Path) -> None:
    store, here = Store(root), Store(tmp_path / "here")
    files = object_files(RECIPE, PAYLOAD, None)
    store.take_in("proposals", OLD_KEY, files)
    assert verify(store).problems == ()
    np.testing.assert_array_equal(store.get("proposals", OLD_KEY).arrays["boxes"], PAYLOAD.arrays["boxes"])
    assert store.describe("proposals", OLD_KEY)["environment"] is None
    assert environments(store, "proposals", [OLD_KEY]).counts == {None: 1}
    here.take_in("proposals", OLD_KEY, store.export("proposals", OLD_KEY))
    assert here.export("proposals", OLD_KEY) == files


def test_an_object_keeps_its_environment_wherever_it_is_copied(root: str, tmp_path: Path, samples: Samples) -> None:
    store, there = Store(root), Store(tmp_path / "there")
    gpu = other(device="cuda NVIDIA H200")
    keys = [store.put(samples.recipe(0), samples.payload(0)), store.put(samples.recipe(1), samples.payload(1), gpu)]
    copy(store, there, [Artifact("features", 1, {}, {}, tuple(enumerate(keys)), {})], 2)
    for one in (store, there):
        told = [one.describe("features", key)["environment"] for key in keys]
        assert told == [present().as_json(), gpu.as_json()]
        assert environments(one, "features", [*keys, "0" * 64]).counts == {present(): 1, gpu: 1}
        assert verify(one).problems == ()


def test_any_flipped_bit_of_the_environment_is_found(store: Store, samples: Samples) -> None:
    key = samples.put(store, form="hdf5")
    path = store.path("features", key) / "object.json"
    good = path.read_bytes()
    first = good.index(b'"environment"')
    path.chmod(0o644)
    for at in range(first, good.index(b"}", first) + 1):
        for bit in range(0, 8, 3):
            bad = bytearray(good)
            bad[at] ^= 1 << bit
            path.write_bytes(bad)
            assert store.check("features", key), (at, bit)
    with pytest.raises(CorruptObjectError, match="checksum differs"):
        store.get("features", key)


@pytest.mark.parametrize(
    "changes",
    [
        {"environment": {}},
        {"environment": None},
        {"environment": ["torch"]},
        {"environment": {"torch": 2}},
        {"environment": {"torch": ""}},
        {"environment": {"torch": "1\n2"}},
        {"environment": {"torch": "1" * 1000}},
        {"environment": {str(i): "1" for i in range(1000)}},
        {"format": 2},
    ],
)
def test_an_environment_that_nobody_wrote_is_damage(changes: dict[str, Any]) -> None:
    body = json.loads(object_files(RECIPE, PAYLOAD, present())["object.json"]) | changes
    del body["checksum"]
    with pytest.raises(DamagedRecordError):
        ObjectRecord.from_bytes(sealed(body))


def test_a_key_names_the_environment_where_it_is_asked_to(store: Store) -> None:
    gpu = other(device="cuda NVIDIA H200")
    named = [RECIPE.in_environment(one.digest) for one in (present(), gpu)]
    assert len({RECIPE.key, *(recipe.key for recipe in named)}) == 3
    assert "environment" not in RECIPE.as_dict()
    store.put(named[1], PAYLOAD, gpu)
    assert store.describe("proposals", named[1].key)["recipe"]["environment"] == gpu.digest
    for recipe, environment in ((named[1], present()), (named[0], gpu), (RECIPE.in_environment("0" * 64), None)):
        with pytest.raises(StoreError, match="named after another environment"):
            Store(f"{store.root}-2").put(recipe, PAYLOAD, environment)
    body = json.loads(object_files(named[1], PAYLOAD, gpu)["object.json"]) | {"environment": present().as_json()}
    del body["checksum"]
    with pytest.raises(DamagedRecordError, match="named after another environment"):
        ObjectRecord.from_bytes(sealed(body))
    with pytest.raises(StoreError, match="no sha256"):
        RECIPE.in_environment("cpu")


def test_the_present_environment_names_every_library_and_imports_none() -> None:
    code = (
        "import sys; from cache.environment import present; print(sorted(present().as_json()));"
        "print([name for name in ('torch', 'torchvision', 'cv2', 'PIL', 'numba') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [str(sorted(["python", "device", *LIBRARIES])), "[]"]
    assert present() is present()
    assert present("cuda X") == other(device="cuda X")


def test_versions_are_those_of_the_distributions_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"opencv-python": "4.10.0.84", "opencv-contrib-python-headless": "5.0.0.93", "torch": "2.8.0+cu128"}

    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError
        return installed[name]

    monkeypatch.setattr(metadata, "version", version)
    found = present.__wrapped__("cpu").as_json()
    assert (found["opencv"], found["torch"]) == ("5.0.0.93 and 4.10.0.84", "2.8.0+cu128")
    assert (found["numba"], found["device"]) == ("not installed", "cpu")


def test_differences_come_in_the_order_in_which_they_are_shown() -> None:
    there = other(opencv="4.10.0.84", torch="2.0", device="cuda A", zlib="1")
    assert present().differing(there) == ["torch", "opencv", "device", "zlib"]
    assert there.differing(there) == []
    assert [part.split()[0] for part in str(present()).split(", ")] == list(NAMES)


def test_of_many_objects_an_even_sample_is_looked_at(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    old = object_files(RECIPE, PAYLOAD, None)["object.json"]
    new = object_files(RECIPE, PAYLOAD, present())["object.json"]
    keys = [f"{i:064x}" for i in range(5000)]
    looked = []

    def record(stage: str, key: str) -> bytes:
        looked.append(int(key, 16))
        return old if int(key, 16) < 2500 else new

    monkeypatch.setattr(store.backend, "record", record)
    found = environments(store, "proposals", keys)
    assert (found.looked, found.objects) == (500, 5000)
    assert set(np.diff(looked)) == {10}
    assert found.counts == {None: 250, present(): 250}
