"""``rcnn detect`` against what the pipeline wrote of the same images, and what it draws."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cache.outputs import RECORD
from manifests import load_dataset
from manifests.describe import class_colour

Rcnn = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def pictures(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Three images of the test split in a folder of a user's own, by their ids."""
    folder = tmp_path_factory.mktemp("mine")
    dataset = load_dataset(finished / "artifacts/manifest/manifest.json")
    found = {}
    for record in dataset.split("test")[:3]:
        found[record.id] = folder / Path(record.file_name).name
        shutil.copyfile(finished / "artifacts/datasets/scenes" / record.file_name, found[record.id])
    return found


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), int)


def test_it_writes_the_pipelines_coco_results(
    finished: Path, run_rcnn: Rcnn, pictures: dict[int, Path], tmp_path: Path
) -> None:
    for name, options in (("coco_bbox", []), ("coco_no_bbox", ["--no-bbox"])):
        out = tmp_path / name
        run_rcnn(finished, "detect", *map(str, pictures.values()), "--out", str(out), *options)
        found = json.loads((out / "detections.json").read_text())
        stored = json.loads((finished / f"reports/results/{name}.json").read_text())
        for number, (image_id, path) in enumerate(pictures.items(), 1):
            mine = [entry for entry in found if entry["image_id"] == number]
            theirs = [entry for entry in stored if entry["image_id"] == image_id]
            assert len(mine) == len(theirs) > 0
            assert {entry["file_name"] for entry in mine} == {str(path)}
            first, second = [
                sorted((entry["category_id"], entry["score"], *entry["bbox"]) for entry in entries)
                for entries in (mine, theirs)
            ]
            np.testing.assert_allclose(first, second, atol=0.05)


def test_it_draws_what_reaches_the_score_and_nothing_else(
    finished: Path, run_rcnn: Rcnn, pictures: dict[int, Path], tmp_path: Path
) -> None:
    dataset = load_dataset(finished / "artifacts/manifest/manifest.json")
    scores = [e["score"] for e in json.loads((finished / "reports/results/coco_bbox.json").read_text())]
    least = float(np.quantile(scores, 0.9))
    path = next(iter(pictures.values()))
    said = run_rcnn(finished, "detect", str(path.parent), "--out", str(tmp_path / "some"), "--min-score", str(least))
    found = json.loads((tmp_path / "some/detections.json").read_text())
    assert found and all(entry["score"] >= least for entry in found)
    assert f"{len(found)} objects drawn in 3 images, {len(found)} detections" in said.stdout
    for name in {Path(entry["file_name"]).name for entry in found}:
        drawn, plain = pixels(tmp_path / "some" / Path(name).with_suffix(".jpg")), pixels(path.parent / name)
        best = max((e for e in found if Path(e["file_name"]).name == name), key=lambda e: e["score"])
        colour = class_colour(dataset.classes.index(best["category"]))
        x, y, width, height = best["bbox"]
        x1, y1, x2, y2 = (round(edge) for edge in (x, y, x + width, y + height))  # the best is drawn above the others
        sides = [
            np.s_[y1 + 1, x1 + 2 : x2 - 2],
            np.s_[y2 - 2, x1 + 2 : x2 - 2],
            np.s_[y1 + 2 : y2 - 2, x1 + 1],
            np.s_[y1 + 2 : y2 - 2, x2 - 2],
        ]
        apart = [[np.abs(image[side] - colour).sum(axis=1).mean() for side in sides] for image in (drawn, plain)]
        # JPEG halves the resolution of colours, and a label may lie on a side
        assert sum(after < 0.8 * before for after, before in zip(*apart, strict=True)) >= 2

    run_rcnn(finished, "detect", str(path), "--out", str(tmp_path / "none"), "--min-score", "1e9")
    assert json.loads((tmp_path / "none/detections.json").read_text()) == []
    assert np.abs(pixels(tmp_path / "none" / path.with_suffix(".jpg").name) - pixels(path)).mean() < 6


def test_a_bad_image_is_named_at_the_end_and_the_others_are_done(
    finished: Path, run_rcnn: Rcnn, pictures: dict[int, Path], tmp_path: Path
) -> None:
    good = next(iter(pictures.values()))
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(good.read_bytes()[:200])
    done = run_rcnn(finished, "detect", str(bad), str(good), "--out", str(tmp_path / "out"), check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith(f"rcnn: {bad}: ")
    assert "in 1 images" in done.stdout and (tmp_path / "out" / good.with_suffix(".jpg").name).exists()
    found = json.loads((tmp_path / "out/detections.json").read_text())
    assert found and {entry["file_name"] for entry in found} == {str(good)}


def test_pictures_of_one_name_do_not_overwrite_each_other(
    finished: Path, run_rcnn: Rcnn, pictures: dict[int, Path], tmp_path: Path
) -> None:
    first, second, *_ = pictures.values()
    for folder, source in (("a", first), ("b", second)):
        (tmp_path / folder).mkdir()
        shutil.copyfile(source, tmp_path / folder / f"x{source.suffix}")
    out = tmp_path / "out"
    files = [str(tmp_path / folder / f"x{first.suffix}") for folder in "ab"]
    run_rcnn(finished, "detect", *files, "--out", str(out), "--min-score", "1e9")
    assert sorted(path.name for path in out.iterdir()) == [RECORD, "detections.json", "x-2.jpg", "x.jpg"]
    for name, source in (("x.jpg", first), ("x-2.jpg", second)):
        assert np.abs(pixels(out / name) - pixels(source)).mean() < 6


def test_it_draws_what_is_precise_enough(
    finished: Path, run_rcnn: Rcnn, pictures: dict[int, Path], tmp_path: Path
) -> None:
    drawn = {}
    for least in ("0", "0.5", "0.999"):
        out = tmp_path / least
        done = run_rcnn(finished, "detect", *map(str, pictures.values()), "--out", str(out), "--min-precision", least)
        drawn[least] = int(done.stdout.split()[0])
    assert drawn["0"] >= drawn["0.5"] >= drawn["0.999"]
    assert drawn["0"] > 0
