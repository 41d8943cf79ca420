"""No flipped bit, lost file or foreign file goes unnoticed, and the way back is said."""

import json
import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
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
from cache.maintenance import gc, verify
from cache.recipe import Form
from cache.record import DamagedRecordError, ObjectRecord, sealed

FORMS: tuple[Form, ...] = ("hdf5", "zarr")


def files(store: Store, key: str) -> list[Path]:
    return sorted(path for path in store.path("features", key).rglob("*") if path.is_file())


def overwrite(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    overwrite(path, bytes(data))


def expect_damage_named(store: Store, samples: Samples, key: str, part: str, form: Form) -> None:
    """verify and get both tell, get quarantines, and a put makes it whole."""
    report = verify(store)
    assert [(p.stage, p.key) for p in report.problems] == [("features", key)]
    assert part in report.problems[0].what
    assert report.damaged_stages == ("features",)
    with pytest.raises(CorruptObjectError) as caught:
        store.get("features", key)
    message = str(caught.value)
    assert f"features object {key}" in message
    assert "dvc repro -f -s features" in message
    assert part in message
    assert "\n" not in message
    assert not store.has("features", key)
    assert len(list((Path(store.root) / "quarantine").glob(f"features-{key}-*"))) >= 1
    samples.put(store, form=form)
    assert verify(store).problems == ()


@pytest.mark.parametrize("form", FORMS)
def test_a_flipped_bit_in_any_file_is_found(store: Store, samples: Samples, form: Form) -> None:
    rng = random.Random(0)
    key = samples.put(store, form=form)
    names = [path.relative_to(store.path("features", key)) for path in files(store, key)]
    assert len(names) == {"hdf5": 2, "zarr": 8}[form]
    for name in names:
        path = store.path("features", key) / name
        nbits = 8 * path.stat().st_size
        for bit in (0, nbits - 1, rng.randrange(nbits), rng.randrange(nbits)):
            flip(path, bit)
            expect_damage_named(store, samples, key, str(name), form)


def test_every_bit_of_the_record_counts(store: Store, samples: Samples) -> None:
    # "1e-05" and "1E-05", 'é' as \u00e9 and \u00E9: one value, one flipped bit apart
    recipe = Recipe("features", 1, {"C": 1e-05, "name": "é"}, {})
    store.put(recipe, Payload({"boxes": np.zeros((1, 4), np.float32)}, {"image": "a.jpg"}, "hdf5"))
    path = store.path("features", recipe.key) / "object.json"
    good = path.read_bytes()
    assert store.check("features", recipe.key) == []
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedRecordError):
            ObjectRecord.from_bytes(bytes(bad))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("how", ["lost", "cut", "grown", "empty"])
def test_a_file_lost_or_of_another_length_is_found(store: Store, samples: Samples, form: Form, how: str) -> None:
    key = samples.put(store, form=form)
    for name in [path.relative_to(store.path("features", key)) for path in files(store, key)]:
        path = store.path("features", key) / name
        data = path.read_bytes()
        if how == "lost":
            path.unlink()
        else:
            overwrite(path, {"cut": data[:-1], "grown": data + b"\0", "empty": b""}[how])
        expect_damage_named(store, samples, key, str(name), form)


def test_the_image_is_named_even_if_the_record_is_damaged(store: Store, samples: Samples) -> None:
    key = samples.put(store, 12)
    path = store.path("features", key) / "object.json"
    overwrite(path, path.read_bytes().replace(b'"form"', b'"farm"'))
    with pytest.raises(CorruptObjectError, match=r"image 000012\.jpg"):
        store.get("features", key)
    key = samples.put(store, 12)
    (store.path("features", key) / "object.json").unlink()
    with pytest.raises(CorruptObjectError, match="image unknown"):
        store.get("features", key)
    with pytest.raises(MissingObjectError):
        store.get("features", key)


def test_damage_to_one_array_does_not_touch_the_reading_of_another(store: Store, samples: Samples) -> None:
    key = samples.put(store)
    flip(store.path("features", key) / "data.zarr" / "fc7" / "c" / "0" / "0", 100)
    assert len(store.get("features", key, ["boxes", "is_gt"]).arrays["boxes"]) == 40
    with pytest.raises(CorruptObjectError, match="fc7/c/0/0"):
        store.get_rows("features", key, "fc7", 0, 1)


def test_rows_are_read_past_damage_in_other_chunks(store: Store) -> None:
    recipe = Recipe("features", 1, {}, {})
    rows = np.arange(600, dtype=np.float32)[:, None].repeat(4096, axis=1)
    key = store.put(recipe, Payload({"fc7": rows}, {}, "zarr"))
    chunks = json.loads((store.path("features", key) / "object.json").read_bytes())["files"]["data.zarr/fc7/c/0/0"]
    flip(store.path("features", key) / "data.zarr" / "fc7" / "c" / "0" / "0", 8 * sum(chunks["chunk_nbytes"][:16]) + 99)
    np.testing.assert_array_equal(store.get_rows("features", key, "fc7", 100, 256), rows[100:256])
    np.testing.assert_array_equal(store.get_rows("features", key, "fc7", 272, 300), rows[272:300])
    with pytest.raises(CorruptObjectError, match=r"fc7/c/0/0, chunk 16, differs from the CRC-32C"):
        store.get_rows("features", key, "fc7", 100, 257)


def test_an_object_under_another_key_is_found(store: Store, samples: Samples) -> None:
    key, other = samples.put(store, 1), samples.recipe(2).key
    store.path("features", other).parent.mkdir(parents=True, exist_ok=True)
    store.path("features", key).rename(store.path("features", other))
    assert "belongs to features object" in verify(store).problems[0].what
    with pytest.raises(CorruptObjectError, match=f"{other}.*belongs to features object {key}"):
        store.get("features", other)


def test_verify_names_what_does_not_belong(store: Store, samples: Samples) -> None:
    key = samples.put(store)
    (store.path("features", key) / "data.zarr" / "extra").write_text("x")
    (Path(store.root) / "objects" / "notes.txt").write_text("x")
    (Path(store.root) / "objects" / "features" / key[:2] / "copy").mkdir()
    problems = [str(problem) for problem in verify(store).problems]
    assert len(problems) == 3
    assert f"features object {key} (image 000000.jpg): data.zarr/extra: does not belong to the object" in problems
    assert sum("does not belong to the store" in problem for problem in problems) == 2


def test_verify_reads_one_stage_reports_progress_and_quarantines_if_asked(store: Store, samples: Samples) -> None:
    keys = [samples.put(store, i, "hdf5") for i in range(3)]
    samples.put(store, 1, "hdf5", "detect")
    flip(store.path("features", keys[1]) / "data.h5", 999)
    seen: list[tuple[int, int]] = []
    report = verify(store, "features", lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert (report.checked.objects, report.quarantined, len(report.problems)) == (3, 0, 1)
    assert report.problems[0].image == "000001.jpg"
    assert verify(store, "detect").problems == ()
    assert verify(store, quarantine=True).quarantined == 1
    assert store.missing("features", keys) == {keys[1]}
    assert verify(store).checked.objects == 3


def test_a_broken_object_in_the_way_of_a_put_is_moved_aside(store: Store, samples: Samples) -> None:
    key = samples.put(store)
    (store.path("features", key) / "object.json").unlink()
    assert samples.put(store) == key
    assert verify(store).problems == ()
    assert len(list((Path(store.root) / "quarantine").iterdir())) == 1


def test_an_object_of_a_newer_format_is_not_called_damaged(store: Store, samples: Samples) -> None:
    key = samples.put(store)
    path = store.path("features", key) / "object.json"
    body = {**json.loads(path.read_bytes()), "format": 4}
    del body["checksum"]
    overwrite(path, sealed(body))
    with pytest.raises(StoreVersionError, match=r"format 4.*update the program"):
        store.get("features", key)
    assert store.has("features", key)
    report = verify(store, quarantine=True)
    assert (report.quarantined, report.damaged_stages) == (0, ())
    assert "update the program" in str(report.problems[0])


def test_an_unreadable_object_is_told_but_not_moved(
    public_dir: Path, samples: Samples, unprivileged: Callable[[], AbstractContextManager[None]]
) -> None:
    store = Store(public_dir / "store")
    keys = sorted(samples.put(store, i, "hdf5") for i in range(2))
    (store.path("features", keys[0]) / "data.h5").chmod(0)
    (store.path("features", keys[1]) / "object.json").chmod(0)
    with unprivileged():
        report = verify(Store(store.root), quarantine=True)
    assert [(p.key, p.damaged) for p in report.problems] == [(key, False) for key in keys]
    assert all("Permission denied" in p.what for p in report.problems)
    assert store.missing("features", keys) == set()


def test_damage_in_a_read_only_store_is_told_without_a_move(
    public_dir: Path, samples: Samples, read_only: Callable[[Path], AbstractContextManager[None]]
) -> None:
    store = Store(public_dir / "store")
    key = samples.put(store, form="hdf5")
    flip(store.path("features", key) / "data.h5", 5)
    with read_only(public_dir / "store"), pytest.raises(CorruptObjectError, match="could not be moved to quarantine"):
        Store(store.root).get("features", key)
    assert store.has("features", key)


def test_a_reference_with_a_flipped_bit_stops_gc_and_is_told_by_verify(store: Store, samples: Samples) -> None:
    key = samples.put(store)
    name = store.register(Artifact("features", 1, {}, {}, ((1, key),), {"dataset": "a"}))
    path = Path(store.root) / name
    data = path.read_bytes()
    at = data.index(key.encode())
    overwrite(
        path,
        data[:at] + bytes([data[at] ^ 2 if data[at] ^ 2 in b"0123456789abcdef" else data[at] ^ 1]) + data[at + 1 :],
    )
    assert "does not hold what its name says" in str(verify(store).problems[0])
    with pytest.raises(StoreError, match="does not hold what its name says"):
        gc(store, [], grace_s=0, dry_run=False)
    assert store.has("features", key)
