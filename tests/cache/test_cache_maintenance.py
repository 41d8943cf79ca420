"""Listing, adding up, and garbage collection that spares whatever anybody still wants."""

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from store_samples import Samples

from cache import Artifact, Store, StoreError, digest_json
from cache import files as _fs
from cache.listing import Usage, find, iter_objects, summarise
from cache.maintenance import gc

OLD_S = 10_000.0


def age(path: Path, seconds: float = OLD_S) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def artifact(*keys: str, dataset: str = "scenes", stage: str = "features") -> Artifact:
    return Artifact(stage, 1, {}, {}, tuple(enumerate(keys)), {"dataset": dataset})


def disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def kept(store: Store) -> set[str]:
    return {info.key for info in iter_objects(store)}


@pytest.fixture
def keys(store: Store, samples: Samples) -> list[str]:
    """Three objects, none used lately."""
    keys = [samples.put(store, i) for i in range(3)]
    for key in keys:
        age(store.path("features", key))
    return keys


def test_an_empty_store_has_nothing(store: Store) -> None:
    assert list(iter_objects(store)) == []
    assert find(store, "ab") == []
    summary = summarise(store)
    assert (summary.stages, summary.artifacts, summary.temporary) == ({}, (), Usage(0, 0))
    assert gc(store, [], dry_run=False).removals == ()


def test_objects_are_listed_with_their_size_and_image(store: Store, samples: Samples, keys: list[str]) -> None:
    detection = samples.put(store, 5, "hdf5", "detect")
    listed = list(iter_objects(store))
    assert [(info.stage, info.key) for info in listed] == [
        ("detect", detection),
        *(("features", k) for k in sorted(keys)),
    ]
    assert {info.image for info in listed} == {"000000.jpg", "000001.jpg", "000002.jpg", "000005.jpg"}
    for info in listed:
        assert info.nbytes == disk(Path(info.path))
        assert info.files == sum(path.is_file() for path in Path(info.path).rglob("*"))
        assert abs(info.created - time.time()) < 600
    assert [info.key for info in iter_objects(store, "detect")] == [detection]
    with pytest.raises(StoreError, match="stage"):
        list(iter_objects(store, "../x"))


def test_find_by_the_beginning_of_a_key(store: Store, keys: list[str]) -> None:
    assert [info.key for info in find(store, keys[1])] == [keys[1]]
    assert keys[0] in {info.key for info in find(store, keys[0][:1])}
    assert find(store, digest_json("other")) == []
    for bad in ("", "xyz", "../..", "0" * 65):
        with pytest.raises(StoreError, match="hex digits"):
            find(store, bad)


def test_summary_by_stage_and_by_artifact(store: Store, samples: Samples, keys: list[str]) -> None:
    samples.put(store, 5, "hdf5", "detect")
    sizes = {info.key: info.nbytes for info in iter_objects(store)}
    absent = digest_json("absent")
    registered, given = artifact(keys[0], keys[1], dataset="raccoon"), artifact(keys[1], absent)
    store.register(registered)
    summary = summarise(store, [given, registered])
    assert summary.stages["features"] == Usage(3, sum(sizes[key] for key in keys))
    assert summary.stages["detect"].objects == 1
    assert {a.dataset: (a.usage, a.missing) for a in summary.artifacts} == {
        "raccoon": (Usage(2, sizes[keys[0]] + sizes[keys[1]]), 0),
        "scenes": (Usage(1, sizes[keys[1]]), 1),
    }
    assert summary.unreferenced == {"detect": summary.stages["detect"], "features": Usage(1, sizes[keys[2]])}


def test_gc_is_a_dry_run_unless_told(store: Store, keys: list[str]) -> None:
    report = gc(store, [artifact(keys[0])])
    assert report.dry_run
    assert {removal.entry.key for removal in report.removals} == {keys[1], keys[2]}
    assert report.nbytes == sum(disk(store.path("features", key)) for key in keys[1:])
    assert report.by_kind == {"features": Usage(2, report.nbytes)}
    assert (report.referenced, report.young) == (1, 0)
    assert kept(store) == set(keys)


def test_gc_keeps_what_a_given_or_a_registered_artifact_names(store: Store, keys: list[str]) -> None:
    store.register(artifact(keys[1]))
    report = gc(store, [artifact(keys[0])], dry_run=False)
    assert [removal.entry.key for removal in report.removals] == [keys[2]]
    assert kept(store) == {keys[0], keys[1]}
    assert list((Path(store.root) / "tmp").iterdir()) == []


def test_the_same_key_of_another_stage_is_another_object(store: Store, keys: list[str]) -> None:
    gc(store, [artifact(*keys, stage="detect")], dry_run=False)
    assert kept(store) == set()


def test_gc_of_the_workspace_only_drops_other_experiments_with_their_references(store: Store, keys: list[str]) -> None:
    mine, other = artifact(keys[0]), artifact(keys[1], dataset="other")
    paths = {a: store.register(a) for a in (mine, other)}
    for path in map(Path(store.root).joinpath, paths.values()):
        age(path)
    report = gc(store, [mine], dry_run=False, workspace_only=True)
    assert report.by_kind["reference"].objects == 1
    assert kept(store) == {keys[0]}
    assert store.references() == {paths[mine]: mine}


def test_gc_spares_what_is_young_or_was_found_present_lately(store: Store, samples: Samples, keys: list[str]) -> None:
    young = samples.put(store, 9)
    assert store.missing("features", [keys[0]]) == set()
    samples.put(store, 1)
    report = gc(store, [], dry_run=False)
    assert report.young == 3
    assert kept(store) == {young, keys[0], keys[1]}
    assert gc(store, [], dry_run=False, grace_s=-1).by_kind["features"].objects == 3


def test_gc_sweeps_old_leftovers_only(store: Store, keys: list[str]) -> None:
    tmp, quarantine = Path(store.root) / "tmp", Path(store.root) / "quarantine"
    store.register(artifact(*keys))
    leftovers = [tmp / "abc", tmp / "def", quarantine / "features-x", quarantine / "features-y"]
    for folder in leftovers:
        folder.mkdir(parents=True)
        (folder / "data.h5").write_bytes(b"x" * 100)
    partials = [Path(store.root) / ".store.json.ab.partial", Path(store.root) / "refs" / ".f.json.cd.partial"]
    for partial in partials:
        partial.write_bytes(b"y" * 10)
    for path in (leftovers[0], leftovers[2], *partials):
        age(path)
    assert summarise(store).temporary == Usage(4, 220)
    assert summarise(store).quarantine == Usage(2, 200)
    report = gc(store, [], dry_run=False)
    assert report.by_kind == {"temporary": Usage(3, 120), "quarantine": Usage(1, 100)}
    assert sorted(tmp.iterdir()) == [leftovers[1]]
    assert sorted(quarantine.iterdir()) == [leftovers[3]]
    assert not any(partial.exists() for partial in partials)
    assert kept(store) == set(keys)


def test_gc_removes_nothing_if_a_reference_cannot_be_read(store: Store, keys: list[str]) -> None:
    (Path(store.root) / "refs").mkdir()
    (Path(store.root) / "refs" / "features-x.json").write_text("{")
    with pytest.raises(StoreError, match=r"features-x\.json: not JSON"):
        gc(store, [], dry_run=False)
    assert kept(store) == set(keys)


def test_gc_without_permission_is_one_line(
    public_dir: Path, samples: Samples, read_only: Callable[[Path], AbstractContextManager[None]]
) -> None:
    store = Store(public_dir / "store")
    key = samples.put(store)
    age(store.path("features", key))
    with read_only(public_dir / "store"), pytest.raises(StoreError, match=f"Permission denied while removing {key}"):
        gc(Store(store.root), [], dry_run=False)
    assert store.has("features", key)


def test_registering_twice_keeps_one_reference(store: Store, keys: list[str]) -> None:
    assert store.register(artifact(*keys)) == store.register(artifact(*keys))
    assert list(store.references().values()) == [artifact(*keys)]


def test_gc_leaves_what_a_living_process_is_writing(store: Store, samples: Samples) -> None:
    samples.put(store)
    own, dead = _fs.own_name(), f"{_fs.own_name().partition('-')[0]}-99999999-{_fs.random_name()}"
    for name in (own, dead, "of-an-older-version"):
        (Path(store.root) / "tmp" / name).mkdir()
        (Path(store.root) / "refs").mkdir(exist_ok=True)
        (Path(store.root) / "refs" / f".x.json.{name}.partial").write_bytes(b"{")
    gc(store, [], dry_run=False, grace_s=-1)
    assert [path.name for path in (Path(store.root) / "tmp").iterdir()] == [own]
    assert [path.name for path in (Path(store.root) / "refs").iterdir()] == [f".x.json.{own}.partial"]


def test_what_another_process_left_unsynced_is_made_durable_when_it_is_found(
    store: Store, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = samples.put(store)
    synced: list[Path] = []
    monkeypatch.setattr(_fs, "sync", synced.append)
    assert store.missing("features", [key]) == set()
    objects = Path(store.root) / "objects"
    assert set(synced) == {objects / "features" / key[:2], objects / "features", objects, store.root}
    synced.clear()
    assert store.missing("features", ["0" * 64]) == {"0" * 64}
    assert synced == []
