"""Names and links that lead out of a dataset or a store are not followed, neither to read nor to write or delete."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from containment_cases import CASES
from store_targets import object_files, sample_payload, sample_recipe

from cache import Store

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="files are watched by Linux's inotify")

# What the user is told, by the beginning of the case's name.
TOLD = {
    "voc_split_names": "no image or annotation has this id",
    "voc_": "is a link that leaves",
    "coco_image_link": "is a link that leaves",
    "coco_json_link": "is a link that leaves",
    "coco_": "the file name",
    "yolo_path": "is not a folder below",
    "yolo_list_lines": "the file name",
    "yolo_absolute_split": "there is no",
    "yolo_parent_split": "there is no",
    "yolo_list_link": "there is no",
    "yolo_": "is a link that leaves",
    "manifest_": "is a link that leaves",
    "proposals_npz": "is neither under boxes/",
    "proposals_hdf5_link": "is a link, not an array",
    "proposals_": "keeps its values in another file",
    "model_hdf5_link": "is a link, not an array",
    "model_": "keeps its values in another file",
    "store_sealed_names": "is no file of an object",
    "store_stage": "does not belong to the store",
    "store_other_stage": "does not belong to the store",
    "store_shard": "does not belong to the store",
    "store_extra_file": "does not belong to the object",
    "store_tmp_entry": "temporary",
    "store_quarantine_entry": "quarantine",
    "store_": "is a link, which nothing inside a store may be",
}


@pytest.fixture(scope="module")
def found(
    program: Callable[..., subprocess.CompletedProcess[str]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What was touched and said, by case; all run in one process."""
    done = program(HERE / "watched.py", *CASES, cwd=tmp_path_factory.mktemp("watched"))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", [name for name in CASES if name != "open_outside"])
def test_nothing_outside_is_touched_and_the_user_is_told(found: dict[str, Any], name: str) -> None:
    assert found[name]["touched"] == []
    assert next(text for start, text in TOLD.items() if name.startswith(start)) in found[name]["said"]


def test_the_watch_sees_what_is_opened_and_written(found: dict[str, Any]) -> None:
    touched = found["open_outside"]["touched"]
    assert "inotify saw outside/ opened or changed" in touched
    assert any(line.startswith("os.mkdir") for line in touched)


def test_a_link_to_a_whole_store_is_fine(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "artifacts").symlink_to("disk")
    store = Store(tmp_path / "artifacts")
    store.put(sample_recipe(), sample_payload("zarr"))
    assert store.get("proposals", object_files("zarr")[0]).attrs["count"] == 2
