"""``rcnn detections save --format ilsvrc``."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain_arrays import as_boxes, as_labels

from cache import Artifact, Payload, Recipe, Store
from manifests import Dataset, ImageRecord, load_dataset, save_dataset
from manifests.select import DUPLICATES

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def detected(project: Path) -> Path:
    """Leave what a run leaves: two test images, three detections, one of them below its class's threshold."""
    images = tuple(
        ImageRecord(i, f"val/{name}.JPEG", 40, 30, str(i) * 64, "test", as_boxes([]), as_labels([]))
        for i, name in ((4, "val_2"), (5, "val_1"))
    )
    save_dataset(Dataset("scenes", ("cat", "dog"), images, (3, 200)), project / "artifacts/manifest/manifest.json")
    store, entries = Store(project / "artifacts"), []
    for image in images:
        scores = [1.23456, -0.5] if image.id == 4 else [0.25]
        found: dict[str, Any] = {
            "boxes": as_boxes([[0, 1, 10, 20]] * len(scores)),
            "scores": np.array(scores, np.float32),
            "labels": as_labels([1, 0][: len(scores)]),
        }
        arrays = {f"{kind}.{key}": array for kind in ("bbox", "no_bbox") for key, array in found.items()}
        recipe = Recipe("detect", 6, {}, {"image": image.id})
        entries.append((image.id, store.put(recipe, Payload(arrays, {"image": "x", "count": 1}, "hdf5"))))
    summary = {"dataset": "scenes", "classes": ["cat", "dog"], "classifier": "svm", "regressed": True}
    summary |= {"rank_factor": 40, "images": ["4" * 64, "5" * 64], "thresholds": {"cat": 0.0, "dog": None}}
    (project / "artifacts/detect").mkdir()
    Artifact("detect", 6, {}, {}, tuple(entries), summary).write(project / "artifacts/detect/manifest.json")
    return project


def save(run: Run, project: Path, *arguments: object) -> tuple[int, str, str]:
    return run("-C", project, "detections", "save", "mine", "--format", "ilsvrc", *arguments)


def test_the_devkits_list_numbers_the_images(run: Run, detected: Path, tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("val_1 1\nval_2 2\nval_3 3\n")
    code, out, err = save(run, detected, "--list", tmp_path / "val.txt", "--out", tmp_path / "out")
    assert (code, out.strip()) == (0, str(tmp_path / "out/mine.txt")), err
    assert (
        tmp_path / "out/mine.txt"
    ).read_text() == "2 200 1.235 1.00 2.00 10.00 20.00\n1 200 0.250 1.00 2.00 10.00 20.00\n"
    assert not (detected / "detections").exists()


def test_without_a_list_one_is_written(run: Run, detected: Path) -> None:
    assert save(run, detected)[0] == 0
    assert (detected / "reports/mine_list.txt").read_text() == "val_2 1\nval_1 2\n"
    assert (detected / "reports/mine.txt").read_text().startswith("1 200 1.235")
    assert save(run, detected)[0] == 0  # the same again
    (detected / "reports/mine.txt").write_text("the user's")
    code, _, err = save(run, detected)
    assert code == 2 and "would be replaced" in err
    assert (detected / "reports/mine.txt").read_text() == "the user's"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("val_1 1\n", "val.txt: has no line of the test images val_2"),
        ("val_1 1\nval_2\n", "val.txt: line 2: 'val_2' is not an image and its number"),
        ("val_1 1\nval_2 1\n", "val.txt: line 2: number 1 is val_1's already; correct it"),
        ("val_1 1\nval_1 2\n", "val.txt: line 2: val_1 stands there a second time; remove one line"),
        ("val_1 0\nval_2 1\n", "val.txt: line 1: number 0 is below 1; correct it"),
    ],
)
def test_a_list_of_another_split(run: Run, detected: Path, tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "val.txt").write_text(text)
    code, out, err = save(run, detected, "--list", tmp_path / "val.txt")
    assert (code, out) == (2, "")
    assert expected in err


def test_other_results_of_the_same_name_are_not_replaced(run: Run, detected: Path, tmp_path: Path) -> None:
    """Neither those of another run, nor the list of numbers of ``mine`` by results called ``mine_list``."""
    assert save(run, detected)[0] == 0
    before = {path: path.read_bytes() for path in (detected / "reports").glob("mine*.txt")}
    (tmp_path / "val.txt").write_text("val_1 1\nval_2 2\n")
    code, _, err = save(run, detected, "--list", tmp_path / "val.txt")
    assert code == 2 and "mine.txt: other results are saved under this name; choose another, or --force" in err
    code, _, err = run("-C", detected, "detections", "save", "mine_list", "--format", "ilsvrc")
    assert code == 2 and "mine_list.txt: other results are saved under this name" in err
    assert before == {path: path.read_bytes() for path in before}
    assert save(run, detected, "--list", tmp_path / "val.txt", "--force")[0] == 0
    assert (detected / "reports/mine.txt").read_text().startswith("2 200 1.235")


def test_duplicates_are_in_it(run: Run, detected: Path) -> None:
    """They are left out of the project's own scores alone: the devkit's server wants every image of the split."""
    manifest = detected / "artifacts/manifest/manifest.json"
    dataset = load_dataset(manifest)
    images = [dataset.images[0], replace(dataset.images[1], splits=("test", DUPLICATES))]
    save_dataset(replace(dataset, images=tuple(images)), manifest)
    assert save(run, detected)[0] == 0
    assert (detected / "reports/mine_list.txt").read_text() == "val_2 1\nval_1 2\n"
    assert len((detected / "reports/mine.txt").read_text().splitlines()) == 2


def test_options_that_do_not_fit(run: Run, detected: Path, tmp_path: Path) -> None:
    code, _, err = run("-C", detected, "detections", "save", "mine", "--out", tmp_path)
    assert code == 2 and "--list and --out are for --format ilsvrc" in err
    code, _, err = save(run, detected, "--from", tmp_path)
    assert code == 2 and "without --from" in err
    code, _, err = save(run, detected, "--list", tmp_path / "none.txt")
    assert code == 2 and "none.txt" in err
