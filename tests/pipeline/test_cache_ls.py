"""``rcnn cache ls STAGE --dataset NAME``: that dataset's objects, for the price of reading each reference once."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cache import Artifact, Payload, Recipe, Store
from cache.backend import Entry, Stat
from cache.environment import present
from cache.folder import FolderBackend
from cache.record import object_files
from pipeline.cli import cli


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two datasets with three objects each, and one object of another stage."""
    (tmp_path / "params.yaml").write_text("dataset: scenes\n")
    store = Store(tmp_path / "artifacts")
    for dataset in ("cats", "dogs"):
        entries = []
        for i in range(3):
            payload = Payload({"x": np.zeros(2)}, {"image": f"{dataset}{i}.jpg", "count": 2}, "hdf5")
            entries.append((i, store.put(Recipe("features", 1, {}, {"image": f"{dataset}{i}"}), payload)))
        store.register(Artifact("features", 1, {}, {}, tuple(entries), {"dataset": dataset}))
    store.put(Recipe("detect", 1, {}, {}), Payload({}, {"image": "cats0.jpg", "count": 0}, "hdf5"))
    return tmp_path


def ls(project: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["-C", str(project), "cache", "ls", *arguments], standalone_mode=True)
    return done.exit_code, done.output


def test_only_that_datasets_objects_each_reference_read_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    read, stat = FolderBackend.read, FolderBackend.stat

    def noting_read(self: FolderBackend, name: str) -> bytes:
        seen.append(name)
        return read(self, name)

    def noting_stat(self: FolderBackend, entry: Entry) -> Stat:
        seen.append(entry.key)
        return stat(self, entry)

    monkeypatch.setattr(FolderBackend, "read", noting_read)
    monkeypatch.setattr(FolderBackend, "stat", noting_stat)
    code, out = ls(project, "features", "--dataset", "cats")
    assert code == 0
    assert sorted(line.split()[1] for line in out.splitlines()[1:]) == ["cats0.jpg", "cats1.jpg", "cats2.jpg"]
    references = [name for name in seen if name.startswith("refs/")]
    assert len(references) == len(set(references)) == 2
    assert len([key for key in seen if len(key) == 64]) == 3  # no object but those shown is measured


@pytest.mark.parametrize("stage", [(), ("features",)])
def test_a_dataset_that_has_no_result(project: Path, stage: tuple[str, ...]) -> None:
    code, out = ls(project, *stage, "--dataset", "cat")
    assert code == 2
    assert "no result is of dataset 'cat' (did you mean 'cats'?); there are: cats, dogs" in out


def test_objects_of_one_image_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("dataset: scenes\n")
    store = Store(tmp_path / "artifacts")
    recipes = [
        Recipe("features", 1, {"method": method, "crop": {"pad_px": 16}}, {"image": image, "proposals": made_of * 64})
        for method, made_of, image in (("warp", "a", "x"), ("spp", "a", "x"), ("spp", "b", "x"), ("spp", "b", "y"))
    ]
    for recipe in recipes:
        store.put(recipe, Payload({}, {"image": f"{recipe.inputs['image']}.jpg", "count": 0}, "hdf5"))
    code, out = ls(tmp_path, "features")
    assert code == 0
    told = {line.split()[0]: line.split("  ")[-1] for line in out.splitlines()[1:]}
    assert [told[recipe.key[:12]] for recipe in recipes] == [
        "method=warp, proposals=aaaaaaaa",
        "method=spp, proposals=aaaaaaaa",
        "method=spp, proposals=bbbbbbbb",
        "method=spp, proposals=bbbbbbbb",
    ]
    damaged = next((tmp_path / "artifacts/objects/features").rglob("object.json"))
    damaged.chmod(0o644)
    damaged.write_text("{")
    assert ls(tmp_path, "features")[0] == 0
    assert damaged.exists()  # listing moves nothing to quarantine


def test_environments_are_shown_and_listed_where_they_differ(project: Path) -> None:
    store, here = Store(project / "artifacts"), present()
    _, out = ls(project, "features")
    assert "environment" not in out
    old, gpu = Recipe("features", 1, {}, {"image": "old"}), Recipe("features", 1, {}, {"image": "gpu"})
    payload = Payload({}, {"image": "a.jpg", "count": 0}, "hdf5")
    store.put(gpu, payload, present("cuda NVIDIA H200"))
    store.take_in("features", old.key, object_files(old, payload, None))
    _, out = ls(project, "features")
    by_key = {line.split()[0]: line for line in out.splitlines()}
    assert "environment.device=cuda NVIDIA H200" in by_key[gpu.key[:12]]
    assert "environment" not in by_key[old.key[:12]]
    assert sum("environment.device=cpu" in line for line in by_key.values()) == 6
    assert "environment.numpy" not in out
    told = {
        key: CliRunner().invoke(cli, ["-C", str(project), "cache", "show", key]).output for key in (gpu.key, old.key)
    }
    assert f"  numpy: {here.as_json()['numpy']}\n" in told[gpu.key]
    assert "  device: cuda NVIDIA H200\n" in told[gpu.key]
    assert "\nenvironment\n  unknown: written before records named it\n" in told[old.key]
    run = CliRunner().invoke(cli, ["-C", str(project), "cache", "show", "--json", gpu.key])
    assert json.loads(run.output)["environment"] == present("cuda NVIDIA H200").as_json()
