"""What every store promises, wherever it lies: a folder, fsspec's memory, an S3 server."""

import io
import json
import pickle
import random
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import s3fs
import zarr
from store_samples import Samples

from cache import (
    Artifact,
    CorruptObjectError,
    MissingObjectError,
    Payload,
    Recipe,
    Store,
    StoreError,
    StoreVersionError,
)
from cache.listing import find, iter_objects, summarise
from cache.maintenance import gc, verify
from cache.recipe import Form
from cache.transfer import copy
from cache.url import UrlBackend

FORMS: tuple[Form, ...] = ("hdf5", "zarr")


def artifact(*keys: str, stage: str = "features") -> Artifact:
    return Artifact(stage, 1, {}, {}, tuple(enumerate(keys)), {"dataset": "cats"})


def damage(store: Store, key: str, seed: int = 0, stage: str = "features") -> str:
    """Flip one bit of one of the object's files."""
    backend, rng = store.backend, random.Random(seed)
    name = backend.entry(stage, key).name
    if isinstance(store.root, str):
        names = [name]
    else:
        names = [str(p.relative_to(store.root)) for p in sorted(store.path(stage, key).rglob("*")) if p.is_file()]
    chosen = rng.choice(names)
    data = bytearray(backend.read(chosen))
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    backend.write(chosen, bytes(data))
    return chosen


@pytest.mark.parametrize("form", FORMS)
def test_what_is_put_is_got(root: str, samples: Samples, form: Form) -> None:
    store, payload = Store(root), samples.payload(form=form, rows=5000)
    assert store.missing("features", [samples.recipe().key]) == {samples.recipe().key}
    with pytest.raises(MissingObjectError, match="has no features object"):
        store.get("features", samples.recipe().key)
    key = store.put(samples.recipe(), payload)
    for reader in (store, Store(root), pickle.loads(pickle.dumps(store))):
        assert reader.has("features", key)
        assert reader.missing("features", [key]) == set()
        found = reader.get("features", key)
        assert found.attrs == payload.attrs
        for name, array in payload.arrays.items():
            assert found.arrays[name].dtype == array.dtype
            np.testing.assert_array_equal(found.arrays[name], array)
        rows = reader.get_rows("features", key, "fc7", 3000, 3010)
        np.testing.assert_array_equal(rows, payload.arrays["fc7"][3000:3010])
        assert list(reader.get("features", key, ["boxes"]).arrays) == ["boxes"]
    told = store.describe("features", key)
    assert (told["attrs"], told["form"]) == (payload.attrs, form)
    assert abs(told["created"] - time.time()) < 3600
    assert verify(store).problems == ()


def test_stores_hold_the_same_files_wherever_they_are(root: str, samples: Samples, tmp_path: Path) -> None:
    here, there = Store(tmp_path / "here"), Store(root)
    for i, form in enumerate(FORMS):
        key = samples.put(here, i, form)
        samples.put(there, i, form)
        assert here.export("features", key) == there.export("features", key)


def test_an_archive_opens_by_itself(samples: Samples, tmp_path: Path) -> None:
    store, payload = Store("memory://own/archive"), samples.payload()
    key = store.put(samples.recipe(), payload)
    path = tmp_path / "object.zip"
    path.write_bytes(store.backend.read(store.backend.entry("features", key).name))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[0] == "object.json"
        assert json.loads(archive.read("object.json"))["attrs"] == dict(payload.attrs)
    with zarr.storage.ZipStore(path, mode="r") as files:
        group: Any = zarr.open_group(files, path="data.zarr", mode="r")
        np.testing.assert_array_equal(group["fc7"][:], payload.arrays["fc7"])
    assert store.describe("features", key)["payload"] == f"memory://own/archive/objects/features/{key[:2]}/{key}.zip"


def test_a_slice_of_a_large_object_reads_little_more_than_its_share(samples: Samples, s3_bucket: str) -> None:
    store = Store(f"{s3_bucket}/slices")
    noise = np.random.default_rng(0).integers(0, 2**16, (16_384, 1024), np.uint16)  # 32 MiB that do not shrink
    key = store.put(samples.recipe(), Payload({"fc7": noise}, {"image": "a"}, "zarr"))
    read: list[int] = []
    assert isinstance(store.backend, UrlBackend)
    fs: Any = store.backend._opened[0]
    whole = fs.cat_file

    def counted(path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        data: bytes = whole(path, start=start, end=end, **options)
        read.append(len(data))
        return data

    fs.cat_file = counted
    try:
        rows = store.get_rows("features", key, "fc7", 5000, 6000)
    finally:
        del fs.cat_file
    np.testing.assert_array_equal(rows, noise[5000:6000])
    assert sum(read) < noise[:1000].nbytes + 4 * (256 << 10)  # the rows, a chunk on either side, and the head


@pytest.mark.parametrize("form", FORMS)
def test_any_flipped_bit_is_found_named_and_put_right(root: str, samples: Samples, form: Form) -> None:
    store = Store(root)
    for seed in range(30 if isinstance(store.root, str) else 10):
        key = samples.put(store, 0, form)
        damage(store, key, seed)
        assert [problem.key for problem in verify(store).problems][:1] == [key]
        report = verify(store, quarantine=True)
        assert (report.quarantined, store.has("features", key)) == (1, False)
    assert summarise(store).quarantine.objects == seed + 1


def test_a_reader_takes_damage_out_of_the_way(root: str, samples: Samples) -> None:
    store = Store(root)
    key = samples.put(store)
    entry = store.backend.entry("features", key)
    if isinstance(store.root, str):
        data = store.backend.read(entry.name)
        store.backend.write(entry.name, data[: len(data) // 2])
    else:
        chunk = store.path("features", key) / "data.zarr/fc7/c/0/0"
        chunk.chmod(0o644)
        chunk.write_bytes(chunk.read_bytes()[:10])
    with pytest.raises(CorruptObjectError, match=r"image 000000\.jpg.*moved to quarantine; run `dvc repro"):
        store.get("features", key)
    assert not store.has("features", key)
    samples.put(store)
    assert store.get("features", key).attrs["image"] == "000000.jpg"


def test_listing_and_finding(root: str, samples: Samples) -> None:
    store = Store(root)
    keys = sorted(samples.put(store, i) for i in range(3))
    other = samples.put(store, 0, stage="proposals")
    assert [info.key for info in iter_objects(store, "features")] == keys
    assert [(info.stage, info.key) for info in iter_objects(store)] == [
        *(("features", key) for key in keys),
        ("proposals", other),
    ]
    (found,) = find(store, keys[1][:20])
    assert found.image in {f"{i:06d}.jpg" for i in range(3)}
    assert found.nbytes > store.describe("features", keys[1])["nbytes"]  # the record too
    summary = summarise(store, [artifact(*keys[:2])])
    assert summary.stages["features"].objects == 3
    assert summary.unreferenced["features"].objects == 1
    assert summary.artifacts[0].missing == 0


def test_gc_removes_what_nothing_names_and_nobody_used(root: str, samples: Samples) -> None:
    store = Store(root)
    named, claimed, unused = (samples.put(store, i) for i in range(3))
    store.register(artifact(named))
    claim = store.register(artifact(claimed, "0" * 64))  # a run in progress, one object of which is to come
    assert gc(store, [], dry_run=False).removals == ()  # all are young
    time.sleep(2.1)  # S3 tells whole seconds
    report = gc(Store(root), [], grace_s=1.0)
    assert ([removal.entry.key for removal in report.removals], store.has("features", unused)) == ([unused], True)
    report = gc(Store(root), [], dry_run=False, grace_s=1.0)
    assert [removal.entry.key for removal in report.removals] == [unused]
    assert [store.has("features", key) for key in (named, claimed, unused)] == [True, True, False]
    store.unregister(claim)
    store.unregister(claim)  # as often as one likes
    assert gc(store, [], dry_run=False, grace_s=1.0).by_kind["features"].objects == 1
    assert store.has("features", named)


def test_gc_spares_what_a_run_claims_meanwhile(root: str, samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(root)
    keys = [samples.put(store, i) for i in range(2)]
    time.sleep(2.1)
    listed = store.backend.leftovers

    def a_run_begins() -> Any:
        Store(root).register(artifact(keys[1]))
        return listed()

    monkeypatch.setattr(store.backend, "leftovers", a_run_begins)  # after gc has read what there was
    report = gc(store, [], dry_run=False, grace_s=1.0)
    assert [removal.entry.key for removal in report.removals] == [keys[0]]
    assert store.has("features", keys[1])


def test_a_newer_store_is_refused_and_a_stray_is_named(root: str, samples: Samples) -> None:
    store = Store(root)
    samples.put(store)
    store.backend.write("objects/features/zz/README", b"?")
    (problem,) = verify(store).problems
    assert "zz" in str(problem)
    assert "does not belong to the store" in str(problem)
    store.backend.write("store.json", b'{"format": 99}')
    with pytest.raises(StoreVersionError, match=r"has format 99 and this program reads up to 2"):
        Store(root)


def test_writers_of_one_key_race_harmlessly(root: str, samples: Samples) -> None:
    store, go = Store(root), threading.Barrier(8)
    keys: list[str] = []

    def write() -> None:
        go.wait()
        keys.append(samples.put(Store(root)))

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert verify(store).problems == ()
    assert sum(1 for _ in iter_objects(store)) == 1
    assert store.get("features", keys[0]).attrs["count"] == 40


def test_push_and_pull_bring_back_every_byte(root: str, samples: Samples, tmp_path: Path) -> None:
    mine, remote, yours = Store(tmp_path / "mine"), Store(root), Store(tmp_path / "yours")
    keys = [samples.put(mine, i, FORMS[i % 2]) for i in range(5)]
    wanted = artifact(*keys[:4])
    pushed = copy(mine, remote, [wanted], 3)
    assert (pushed.copied, pushed.present, pushed.problems) == (4, 0, ())
    assert not remote.has("features", keys[4])
    assert list(remote.references().values()) == [wanted]
    assert copy(mine, remote, [wanted], 3).present == 4  # nothing to do
    pulled = copy(remote, yours, [wanted], 3)
    assert (pulled.copied, pulled.nbytes) == (4, pushed.nbytes)
    for key in keys[:4]:
        assert yours.export("features", key) == mine.export("features", key)
    assert verify(yours).problems == verify(remote).problems == ()


def test_damage_and_gaps_do_not_spread(root: str, samples: Samples, tmp_path: Path) -> None:
    source, target = Store(tmp_path / "source"), Store(root)
    keys = [samples.put(source, i) for i in range(3)]
    damage(source, keys[0], seed=1)
    gone = "0" * 64
    done = copy(source, target, [artifact(*keys, gone), artifact(keys[1])], 2)
    assert (done.copied, len(done.problems)) == (2, 2)
    assert any("is damaged" in line for line in done.problems)
    assert any(f"has no features object {gone}" in line for line in done.problems)
    assert not target.has("features", keys[0])
    assert list(target.references().values()) == [artifact(keys[1])]  # the other is not whole here


def test_a_copy_that_is_cut_off_goes_on(
    root: str, samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = Store(tmp_path / "source"), Store(root)
    keys = [samples.put(source, i) for i in range(6)]
    written: list[str] = []
    whole = Store.take_in

    def failing(self: Store, stage: str, key: str, files: Any) -> None:
        if len(written) == 2:
            raise StoreError("the connection is gone")
        written.append(key)
        whole(self, stage, key, files)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "take_in", failing)
        with pytest.raises(StoreError, match="the connection is gone"):
            copy(source, target, [artifact(*keys)], 1)
    assert [found.unfinished for found in target.references().values()] == [True]  # gc spares the two
    done = copy(source, target, [artifact(*keys)], 1)
    assert (done.copied, done.present) == (4, 2)
    assert list(target.references().values()) == [artifact(*keys)]


def test_an_object_is_taken_in_only_under_its_own_name(root: str, samples: Samples, tmp_path: Path) -> None:
    source, target = Store(tmp_path / "source"), Store(root)
    key = samples.put(source)
    files = source.export("features", key)
    with pytest.raises(StoreError, match="not its own"):
        target.take_in("features", "0" * 64, files)
    with pytest.raises(StoreError, match="not its own"):
        target.take_in("features", key, {**files, "../../evil": b""})
    assert summarise(target).stages == {}


def test_no_server_no_bucket_and_no_such_protocol_are_one_line(
    samples: Samples, monkeypatch: pytest.MonkeyPatch, s3_bucket: str
) -> None:
    with pytest.raises(StoreError, match=r"store nosuch://x: neither a folder nor PROTOCOL://BUCKET/FOLDER"):
        samples.put(Store("nosuch://x"))
    with pytest.raises(StoreError, match=r"s3://no-such-bucket/a: .* while writing features object .* of image 0"):
        samples.put(Store("s3://no-such-bucket/a"))
    here = Store(f"{s3_bucket}/nobody")
    here.backend.__dict__.pop("_opened")
    s3fs.S3FileSystem.clear_instance_cache()  # an open connection stays open
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StoreError, match=r"store\.json: cannot be read \(EndpointConnectionError.*check the address"):
        Store("s3://features/elsewhere")
    with pytest.raises(StoreError, match=r"EndpointConnectionError.* while looking for features object"):
        Store.has(here, "features", "0" * 64)
    s3fs.S3FileSystem.clear_instance_cache()


def test_zip_is_what_python_reads(samples: Samples) -> None:
    store = Store("memory://zips/x")
    key = samples.put(store, form="hdf5")
    files = store.export("features", key)
    with zipfile.ZipFile(io.BytesIO(store.backend.read(store.backend.entry("features", key).name))) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == files


def test_a_file_url_is_a_folder_and_a_half_visible_place_is_refused(samples: Samples, tmp_path: Path) -> None:
    key = samples.put(Store(f"file://{tmp_path}/store"))
    assert Store(tmp_path / "store").has("features", key)
    for url in ("sftp://host/a", "ftp://host/a", "memory://", "simplecache::s3://a/b"):
        with pytest.raises(StoreError, match="appears only when it is whole"):
            Store(url)


def test_an_empty_or_cut_archive_is_damage(root: str, samples: Samples) -> None:
    store = Store(root)
    if not isinstance(store.root, str):
        pytest.skip("a folder's objects are no archives")
    key = samples.put(store)
    entry = store.backend.entry("features", key)
    whole = store.backend.read(entry.name)
    for length in (0, 20, 200, len(whole) - 1):
        store.backend.write(entry.name, whole[:length])
        assert len(verify(store).problems) == 1
        assert verify(store, quarantine=True).quarantined == 1
        assert not store.has("features", key)
        samples.put(store)


def test_an_object_that_goes_between_its_record_and_its_files_is_missing(
    root: str, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(root)
    key = samples.put(store)
    files = store.backend.files

    def gone(found: Any, names: Any) -> Any:
        store.backend.remove(store.backend.entry("features", key))
        return files(found, names)

    monkeypatch.setattr(store.backend, "files", gone)
    with pytest.raises(MissingObjectError, match="has no features object"):
        store.get("features", key)
    assert summarise(store).quarantine.objects == 0


def test_a_file_too_large_for_an_archive_is_refused(monkeypatch: pytest.MonkeyPatch, samples: Samples) -> None:
    monkeypatch.setattr("cache.url._MAX_FILE_BYTES", 1000)
    with pytest.raises(StoreError, match=r"too many for an archive; keep this object in a folder"):
        samples.put(Store("memory://large/x"))


def test_verify_at_a_url_fetches_each_object_once(samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(f"memory://verify-{random.random()}/x")
    keys = [samples.put(store, i) for i in range(2)]
    keys.append(store.put(samples.recipe(2), samples.payload(2, rows=30_000)))
    nbytes = {key: len(store.backend.read(store.backend.entry("features", key).name)) for key in keys}
    call: Any = UrlBackend._call
    fetched: dict[str, list[int]] = {key: [] for key in keys}

    def counting(self: UrlBackend, method: str, name: str, *args: Any, **options: Any) -> Any:
        data = call(self, method, name, *args, **options)
        if method == "cat_file" and name.startswith("objects/"):
            fetched[name[-68:-4]].append(len(data))
        return data

    monkeypatch.setattr(UrlBackend, "_call", counting)
    assert verify(store).problems == ()
    head = 1 << 16  # for the record
    assert fetched == {key: [min(head, nbytes[key]), nbytes[key]] for key in keys}
    assert max(nbytes.values()) > 10 * head


def test_an_empty_slice_asks_for_nothing(root: str) -> None:
    store = Store(root)
    rows = np.random.default_rng(0).random((600, 400)).astype(np.float32)
    key = store.put(Recipe("features", 1, {}, {}), Payload({"fc7": rows}, {}, "zarr"))
    for start, stop in ((0, 0), (600, 700), (5, 5), (9, 3)):
        found = store.get_rows("features", key, "fc7", start, stop)
        assert found.shape == (0, 400) and found.dtype == np.float32
