"""What is put is got, to the bit, and the files explain themselves to anyone."""

import json
import os
import pickle
import stat
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from store_samples import Samples
from zarr.codecs import ZstdCodec

from cache import MissingObjectError, Payload, Recipe, Store, StoreError, StoreVersionError, canonical_json, digest_json
from cache._hdf5 import to_hdf5
from cache.recipe import Form

FORMS: tuple[Form, ...] = ("hdf5", "zarr")
NAMES = st.from_regex(r"[a-z_][a-z0-9_.]{0,8}", fullmatch=True).filter(lambda name: name != "zarr.json")
DTYPES = st.sampled_from(["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", ">f4", ">i8"])
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)
ARRAYS = hnp.arrays(DTYPES, SHAPES) | hnp.arrays(st.just("U6"), SHAPES, elements=TEXT)
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
ATTRS = st.dictionaries(NAMES, VALUES | st.lists(VALUES, max_size=2) | st.dictionaries(st.text(), VALUES, max_size=2))


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@given(arrays=st.dictionaries(NAMES, ARRAYS, max_size=3), attrs=ATTRS, form=st.sampled_from(FORMS))
@settings(deadline=None, max_examples=40)
def test_round_trip(shared_store: Store, arrays: dict[str, NDArray[Any]], attrs: dict[str, Any], form: Form) -> None:
    content = {name: [a.dtype.str, list(a.shape), a.tobytes().hex()] for name, a in arrays.items()}
    key = shared_store.put(
        Recipe("features", 1, {"content": content, "form": form}, attrs), Payload(arrays, attrs, form)
    )
    found = shared_store.get("features", key)
    assert canonical_json(found.attrs) == canonical_json(attrs)
    assert set(found.arrays) == set(arrays)
    for name, array in arrays.items():
        back = found.arrays[name]
        assert back.dtype == array.dtype.newbyteorder("=")
        assert back.shape == array.shape
        assert back.tobytes() == array.astype(back.dtype).tobytes()


@pytest.mark.parametrize("form", FORMS)
def test_large_arrays_come_back_and_rows_are_rows(store: Store, form: Form) -> None:
    rng = np.random.default_rng(0)
    # 25 chunks of 32 rows; 19 of 16 rows, the last not full; one chunk; in both forms compressible and not
    arrays: dict[str, NDArray[Any]] = {
        "fc7": np.maximum(rng.standard_normal((800, 4096)), 0).astype(np.float16),
        "all_nan": np.full((300, 4096), np.nan, np.float32),
        "noise": rng.integers(0, 256, (50, 3, 1000), dtype=np.uint8),
        "labels": np.repeat(np.arange(50), 40).reshape(50, 40),
    }
    key = store.put(Recipe("features", 1, {}, {}), Payload(arrays, {}, form))
    back = store.get("features", key).arrays
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
    for start, stop in [(0, 1), (31, 33), (64, 96), (100, 300), (700, 800), (790, 900), (5, 5), (-3, 10**6)]:
        np.testing.assert_array_equal(store.get_rows("features", key, "fc7", start, stop), arrays["fc7"][start:stop])


@pytest.mark.parametrize("form", FORMS)
def test_only_the_named_arrays_are_returned(store: Store, samples: Samples, form: Form) -> None:
    key = samples.put(store, form=form)
    found = store.get("features", key, ["boxes"])
    assert list(found.arrays) == ["boxes"]
    assert found.attrs["image"] == "000000.jpg"
    assert store.get("features", key, []).arrays == {}
    with pytest.raises(StoreError, match=r"no array 'pool5'; it has: boxes, fc7, is_gt"):
        store.get("features", key, ["pool5"])


def test_zarr_opens_by_itself(store: Store, samples: Samples) -> None:
    payload = samples.payload()
    key = store.put(samples.recipe(), payload)
    group: Any = zarr.open(store.describe("features", key)["payload"], mode="r")
    assert dict(group.attrs) == dict(payload.attrs)
    for name, array in payload.arrays.items():
        np.testing.assert_array_equal(group[name][:], array)
        assert group[name].dtype == array.dtype
    # a lost chunk must not look like a feature that is 0
    assert np.isnan(group["fc7"].fill_value)


def test_equal_bytes_whoever_else_holds_the_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "a": rng.random((9, 4)),
        "labels": rng.integers(0, 9, (300, 320)),
        "parents": np.arange(2000),
        "z": np.ones(2),
    }
    usual = to_hdf5(arrays, {"image": "a.jpg"})
    held, create = [], h5py.Group.create_dataset

    def create_and_hold(*args: Any, **options: Any) -> Any:
        held.append(create(*args, **options))
        return held[-1]

    monkeypatch.setattr(h5py.Group, "create_dataset", create_and_hold)
    assert to_hdf5(arrays, {"image": "a.jpg"}) == usual


@pytest.mark.parametrize(
    "array",
    [
        np.random.default_rng(0).standard_normal((100, 4096)).astype(np.float16),  # four chunks, the last not full
        np.zeros((70_000, 3), np.int32),  # all fill values
        np.ones((3, 2, 50_000), np.float64),  # a row is larger than a chunk
        np.arange(300_000, dtype=np.uint8),
    ],
)
def test_a_shard_is_the_bytes_that_zarr_writes(store: Store, array: NDArray[Any]) -> None:
    key = store.put(Recipe("features", 1, {}, {}), Payload({"fc7": array}, {}, "zarr"))
    group: Any = zarr.open(store.describe("features", key)["payload"], mode="r")
    ours = group["fc7"]
    np.testing.assert_array_equal(ours[:], array)
    files: dict[str, Any] = {}
    other = zarr.create_array(
        zarr.storage.MemoryStore(files),
        shape=array.shape,
        chunks=ours.chunks,
        shards=ours.shards,
        dtype=array.dtype,
        compressors=ZstdCodec(level=1),
        fill_value=float("nan") if array.dtype.kind == "f" else 0,
        config={"write_empty_chunks": True},
    )
    other[...] = array
    for path, data in files.items():
        assert (store.path("features", key) / "data.zarr" / "fc7" / path).read_bytes() == data.to_bytes(), path


def test_hdf5_opens_by_itself(store: Store, samples: Samples) -> None:
    payload = samples.payload(form="hdf5")
    attrs = {**payload.attrs, "crop": None, "layers": ["fc7"], "ok": True, "odd": "a\0b\udcff", "long": "x" * 100_000}
    key = store.put(samples.recipe(), Payload(payload.arrays, attrs, "hdf5"))
    with h5py.File(store.describe("features", key)["payload"]) as file:
        assert file.attrs["image"] == "000000.jpg"
        assert file.attrs["count"] == 40
        assert (file.attrs["crop"], file.attrs["layers"]) == ("null", '["fc7"]')
        assert file.attrs["ok"].dtype == bool
        assert file.attrs["odd"] == "a\\x00b\\udcff"
        for name, array in payload.arrays.items():
            np.testing.assert_array_equal(file[name][:], array)
            assert file[name].dtype == array.dtype
    assert store.get("features", key).attrs == attrs


def test_hdf5_compresses_only_what_shrinks(store: Store) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(100), 1000)
    noise = np.frombuffer(rng.bytes(100_000), np.uint8)
    arrays: dict[str, NDArray[Any]] = {"labels": labels, "noise": noise, "few": labels[:10]}
    key = store.put(Recipe("proposals", 1, {}, {}), Payload(arrays, {}, "hdf5"))
    with h5py.File(store.describe("proposals", key)["payload"]) as file:
        assert {name: file[name].compression for name in file} == {"labels": "gzip", "noise": None, "few": None}
    assert store.describe("proposals", key)["nbytes"] < 120_000


@pytest.mark.parametrize("form", FORMS)
def test_equal_payloads_give_equal_bytes(tmp_path: Path, samples: Samples, form: Form) -> None:
    payload = samples.payload(form=form, rows=300)
    labels = np.repeat(np.arange(300), 10).reshape(300, 10)
    arrays = {**payload.arrays, "labels": labels, "names": np.array(["a", "bé"])}
    attrs = dict(payload.attrs)
    contents = []
    for i in range(2):
        store = Store(tmp_path / str(i))
        key = store.put(samples.recipe(), Payload(arrays, attrs, form))
        folder = store.path("features", key)
        contents.append({str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()})
        if form == "hdf5" and i == 0:
            time.sleep(1.1)  # HDF5 can store times, in seconds
        # the order of a mapping and the memory layout are no content
        arrays = {name: np.asfortranarray(arrays[name]) for name in reversed(arrays)}
        attrs = dict(reversed(attrs.items()))
    assert contents[0] == contents[1]
    assert len(contents[0]) >= 2


def test_missing_object_says_how_to_make_it(store: Store) -> None:
    key = digest_json("never")
    with pytest.raises(MissingObjectError, match=f"no features object {key}.*dvc repro -f -s features"):
        store.get("features", key)
    with pytest.raises(MissingObjectError):
        store.describe("features", key)
    assert not store.has("features", key)
    assert not Path(store.root).exists(), "reading made the store"


def test_missing_lists_what_is_to_be_computed(store: Store, samples: Samples) -> None:
    present, absent = samples.put(store, 1), samples.recipe(2).key
    assert store.missing("features", [present, absent, absent]) == {absent}
    assert store.missing("detect", [present]) == {present}
    assert store.missing("features", []) == set()


def test_describe_tells_what_the_key_was_made_of(store: Store, samples: Samples) -> None:
    recipe = samples.recipe(3)
    key = store.put(recipe, samples.payload(3))
    told = store.describe("features", key)
    assert digest_json(told["recipe"]) == key
    assert told["attrs"]["image"] == "000003.jpg"
    assert told["arrays"]["fc7"] == {"shape": [40, 64], "dtype": "<f2"}
    assert told["nbytes"] == sum((Path(told["path"]) / name).stat().st_size for name in told["files"])
    json.dumps(told)


def test_a_second_put_of_a_key_changes_nothing(store: Store, samples: Samples) -> None:
    key = samples.put(store)
    before = {p: p.stat().st_mtime_ns for p in store.path("features", key).rglob("*")}
    assert store.put(samples.recipe(), samples.payload(99)) == key
    assert {p: p.stat().st_mtime_ns for p in store.path("features", key).rglob("*")} == before


@pytest.mark.parametrize("key", ["", "abc", "../" * 20 + "abcd", "A" * 64, "g" * 64, "0" * 63 + "\n", "0" * 65])
def test_a_key_that_is_none_is_refused(store: Store, key: str) -> None:
    with pytest.raises(StoreError, match="not 64 lower-case hex digits"):
        store.path("features", key)


def test_a_stage_name_with_a_path_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="stage"):
        store.path("../features", "0" * 64)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "zarr.json", "a b", "-a", "é", "a\0"])
@pytest.mark.parametrize("what", ["array", "attribute"])
def test_a_name_that_could_leave_the_object_is_refused(store: Store, samples: Samples, name: str, what: str) -> None:
    arrays, attrs = ({name: np.zeros(1)}, {}) if what == "array" else ({}, {name: 1})
    with pytest.raises(StoreError, match=f"{what} name"):
        store.put(samples.recipe(), Payload(arrays, attrs, "zarr"))
    assert not Path(store.root).exists()


@pytest.mark.parametrize(
    "array",
    [
        [1, 2],
        np.array([{}], object),
        np.array([1j]),
        np.zeros(1, np.longdouble),
        np.array([b"x"]),
        np.array(["2020"], "M8[Y]"),
        np.array(["a\0b"]),
        np.array(["\udcff"]),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_an_array_that_would_not_come_back_is_refused_by_name(
    store: Store, samples: Samples, array: Any, form: Form
) -> None:
    with pytest.raises(StoreError, match="array 'scores'"):
        store.put(samples.recipe(), Payload({"scores": array}, {}, form))


def test_an_unknown_form_and_attributes_that_are_no_json_are_refused(store: Store, samples: Samples) -> None:
    with pytest.raises(StoreError, match="'npz'"):
        store.put(samples.recipe(), Payload({}, {}, "npz"))  # type: ignore[arg-type]
    with pytest.raises(StoreError, match=r"attrs\.count: a int64"):
        store.put(samples.recipe(), Payload({}, {"count": np.int64(3)}, "zarr"))


def test_a_newer_store_is_refused_with_what_to_do(store: Store, samples: Samples) -> None:
    samples.put(store)
    (Path(store.root) / "store.json").write_text('{"format": 3}')
    with pytest.raises(StoreVersionError, match="format 3 and this program reads up to 2; update the program"):
        Store(store.root)
    (Path(store.root) / "store.json").write_text('{"format": 1}')
    with pytest.raises(StoreVersionError, match="format 1, of before the first release; remove it or choose another"):
        Store(store.root)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": tru', "\0"])
def test_a_broken_store_description_is_refused_by_its_path(store: Store, samples: Samples, text: str) -> None:
    samples.put(store)
    (Path(store.root) / "store.json").write_text(text)
    with pytest.raises(StoreError, match=r"store\.json: not a store description"):
        Store(store.root)


@pytest.mark.parametrize("name", ["objects", "refs", "tmp", "quarantine"])
def test_a_folder_that_holds_such_names_and_is_no_store_is_left_alone(
    store: Store, samples: Samples, name: str
) -> None:
    """What lies in somebody's tmp/ would be gc's to remove."""
    theirs = Path(store.root) / name / "holiday.jpg"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"theirs")
    with pytest.raises(StoreError, match=rf"is no store, but holds {name}/.*choose another folder"):
        samples.put(store)
    assert [path for path in Path(store.root).rglob("*") if path.is_file()] == [theirs]
    theirs.unlink()
    samples.put(store)


def test_a_read_only_store_is_read(
    public_dir: Path, samples: Samples, unprivileged: Callable[[], AbstractContextManager[None]]
) -> None:
    store = Store(public_dir / "store")
    keys = [samples.put(store, i, form) for i, form in enumerate(FORMS)]
    for folder, _, _ in os.walk(store.root):
        Path(folder).chmod(0o555)
    try:
        with unprivileged():
            reader = Store(store.root)
            assert reader.missing("features", keys) == set()
            for i, key in enumerate(keys):
                np.testing.assert_array_equal(
                    reader.get("features", key).arrays["fc7"], samples.payload(i).arrays["fc7"]
                )
                assert reader.put(samples.recipe(i), samples.payload(i)) == key
            with pytest.raises(StoreError, match=r"Permission denied while writing features object .*000007.jpg"):
                samples.put(reader, 7)
    finally:
        for folder, _, _ in os.walk(store.root):
            Path(folder).chmod(0o755)


def test_an_unreadable_store_is_one_line(
    public_dir: Path, samples: Samples, unprivileged: Callable[[], AbstractContextManager[None]]
) -> None:
    store = Store(public_dir / "store")
    key = samples.put(store)
    record = store.path("features", key) / "object.json"
    record.chmod(0)
    with unprivileged(), pytest.raises(StoreError, match=r"object\.json: cannot be read \(Permission denied\)"):
        Store(store.root).get("features", key)
    (Path(store.root) / "store.json").chmod(0)
    with unprivileged(), pytest.raises(StoreError, match=r"store\.json: cannot be read \(Permission denied\)"):
        Store(store.root)


@pytest.mark.parametrize("umask", [0o002, 0o077])
def test_permissions_follow_the_umask(store: Store, samples: Samples, umask: int) -> None:
    before = os.umask(umask)
    try:
        key = samples.put(store)
    finally:
        os.umask(before)
    folder = store.path("features", key)
    for path in [*folder.rglob("*"), folder, *list(folder.parents)[:4], Path(store.root) / "tmp"]:
        if path.is_dir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o777 & ~umask, path
        else:
            assert stat.S_IMODE(path.stat().st_mode) == 0o444 & ~umask, path
    assert stat.S_IMODE((Path(store.root) / "store.json").stat().st_mode) == 0o666 & ~umask


def test_threads_share_a_store(store: Store, samples: Samples) -> None:
    errors: list[BaseException] = []

    def work(start: int) -> None:
        try:
            for i in [*range(start, 6), *range(start)]:
                key = samples.put(store, i, FORMS[i % 2])
                back = store.get("features", key).arrays["fc7"]
                np.testing.assert_array_equal(back, samples.payload(i).arrays["fc7"])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert list((Path(store.root) / "tmp").iterdir()) == []


def test_a_store_can_be_sent_to_another_process(store: Store, samples: Samples) -> None:
    key = samples.put(store)
    assert pickle.loads(pickle.dumps(store)).has("features", key)
    assert str(store.root) in repr(store)
