"""Two detectors of one project: saved, combined, evaluated, kept by gc; and what the commands refuse."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import yaml

from cache import Artifact, Store
from stages.detections.suppression import CANDIDATES, Candidates, suppressed, union

Rcnn = Callable[..., "CompletedProcess[str]"]
Put = Callable[[Path, dict[str, Any]], None]
DETECT, COMBINE = "artifacts/detect/manifest.json", "artifacts/combine/manifest.json"


def change(project: Path, put_params: Put, **groups: dict[str, Any]) -> None:
    """Set parameters by group; everything else stays."""
    params: dict[str, Any] = yaml.safe_load((project / "params.yaml").read_text())
    for group, values in groups.items():
        params[group] |= values
    put_params(project, params)


@pytest.fixture
def two(project: Path, run_rcnn: Rcnn, put_params: Put) -> Path:
    """The finished project's detections saved as A, and the project then run with SVMs on another layer."""
    run_rcnn(project, "detections", "save", "A")
    change(project, put_params, svm={"layer": "pool5"})
    run_rcnn(project, "run", "svm", "detect", "combine")
    return project


def test_without_others_nothing_is_added(finished: Path) -> None:
    assert (finished / COMBINE).read_bytes() == (finished / DETECT).read_bytes()
    assert not (finished / "artifacts/objects/combine").exists()


def test_two_detectors_are_combined_and_evaluated(two: Path, finished: Path, run_rcnn: Rcnn, put_params: Put) -> None:
    change(two, put_params, combine={"detectors": ["A"]})
    run_rcnn(two, "run", "combine", "evaluate", "report")
    store, combined = Store(two / "artifacts"), Artifact.read(two / COMBINE)
    parts = [Artifact.read(path / DETECT) for path in (two, finished)]
    assert parts[0] != parts[1]
    assert list(combined.keys) == list(parts[0].keys) == list(parts[1].keys)
    for i in combined.keys:
        arrays = [store.get("detect", part.keys[i], CANDIDATES).arrays for part in parts]
        expected = suppressed(union([Candidates(*(a[name] for name in CANDIDATES)) for a in arrays]), 0.3).arrays()
        found = store.get("combine", combined.keys[i]).arrays
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)
    results = json.loads((two / "reports/results/coco_bbox.json").read_text())
    shown = store.get("combine", combined.keys[results[0]["image_id"]]).arrays
    assert round(results[0]["score"], 4) in np.round(shown["bbox.scores"].astype(float), 4)
    assert "voc2010" in json.loads((two / "reports/scores.json").read_text())
    assert "suppressed together with those of saved detectors: A." in (two / "reports/index.html").read_text()
    # again, and nothing is to be computed
    assert "0 images computed" in run_rcnn(two, "run", "combine").stderr
    # and back: the project's own detections, as if none had been saved
    change(two, put_params, combine={"detectors": []})
    run_rcnn(two, "run", "combine")
    assert (two / COMBINE).read_bytes() == (two / DETECT).read_bytes()


def test_gc_keeps_what_is_saved_until_the_file_goes(two: Path, finished: Path, run_rcnn: Rcnn) -> None:
    keys, store = set(Artifact.read(finished / DETECT).keys.values()), Store(two / "artifacts")
    run_rcnn(two, "cache", "gc", "--workspace", "--grace", "0", "--delete")
    assert not store.missing("detect", keys)
    said = run_rcnn(two, "detections", "ls").stdout.splitlines()
    assert said[1].split(maxsplit=3) == ["A", "scenes", "5", "small, warp, svm on fc7, boxes by pool5"]
    assert "A.json" not in run_rcnn(two, "cache", "verify").stdout
    (two / "detections/A.json").unlink()
    run_rcnn(two, "cache", "gc", "--workspace", "--grace", "0", "--delete")
    assert store.missing("detect", keys) == keys


def test_detections_of_another_project_are_brought_with_their_objects(
    two: Path, finished: Path, run_rcnn: Rcnn, put_params: Put, tmp_path: Path
) -> None:
    theirs = tmp_path / "their project"
    shutil.copytree(finished, theirs)
    (two / "detections/A.json").unlink()
    run_rcnn(two, "cache", "gc", "--workspace", "--grace", "0", "--delete")
    said = run_rcnn(two, "detections", "save", "theirs", "--from", str(theirs)).stdout
    assert "theirs.json: small, warp, svm on fc7, boxes by pool5; 5 images" in said
    shutil.rmtree(theirs)
    change(two, put_params, combine={"detectors": ["theirs"]})
    assert "5 images computed" in run_rcnn(two, "run", "combine").stderr


def test_gaps_and_damage(two: Path, run_rcnn: Rcnn, put_params: Put) -> None:
    change(two, put_params, combine={"detectors": ["A"]})
    run_rcnn(two, "run", "combine", "evaluate")
    metrics = (two / "reports/scores.json").read_bytes()
    store = Store(two / "artifacts")
    # the project's own detections, and a combined object: computed again where they are met
    combined, own = Artifact.read(two / COMBINE), Artifact.read(two / DETECT)
    image = next(iter(own.keys))
    for stage, key in (("combine", combined.keys[image]), ("detect", own.keys[image])):
        shutil.rmtree(store.path(stage, key))
    said = run_rcnn(two, "run", "evaluate").stderr
    assert "computing again what the store lacks of combine" in said
    assert "computing again what the store lacks of detect" in said
    assert (two / "reports/scores.json").read_bytes() == metrics
    # the saved ones: only whoever made them can
    saved = Artifact.read(two / "detections/A.json")
    shutil.rmtree(store.path("detect", saved.keys[image]))
    done = run_rcnn(two, "run", "combine", check=False)
    assert done.returncode == 2
    assert "1 of 5 objects of A are not in the store" in done.stderr
    assert "Traceback" not in done.stderr
    assert "1 missing" in run_rcnn(two, "detections", "ls").stdout
    found = run_rcnn(two, "cache", "verify", check=False)
    assert found.returncode == 2
    assert "A.json: 1 objects of it are not in the store" in found.stdout
    assert "detect: " not in found.stdout  # whose own are all there


def test_evaluate_fills_a_gap_in_what_combine_hands_on(project: Path, run_rcnn: Rcnn) -> None:
    own = Artifact.read(project / DETECT)
    shutil.rmtree(Store(project / "artifacts").path("detect", next(iter(own.keys.values()))))
    assert "computing again what the store lacks of detect" in run_rcnn(project, "run", "evaluate").stderr


def test_what_is_wrong_is_one_line(two: Path, run_rcnn: Rcnn, put_params: Put, tmp_path: Path) -> None:
    def refused(*arguments: str) -> str:
        done = run_rcnn(two, *arguments, check=False)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "other detections are saved under this name" in refused("detections", "save", "A")
    assert "name '../A'" in refused("detections", "save", "../A")
    (tmp_path / "empty").mkdir()
    empty = str(tmp_path / "empty")
    assert "artifacts/detect/manifest.json: not found" in refused("detections", "save", "B", "--from", empty)
    change(two, put_params, combine={"detectors": ["B"]})
    assert "B.json: no detections are saved under this name (there are: A)" in refused("run", "combine")
    change(two, put_params, combine={"detectors": ["A"]}, bbox={"enabled": False})
    run_rcnn(two, "run", "bbox", "detect")
    assert "A: box regression is on in one and off in the other" in refused("run", "combine")
    shutil.rmtree(two / "detections")
    assert "no detections are saved: `rcnn detections save NAME`" in refused("run", "combine")
    # replaced on demand only
    run_rcnn(two, "detections", "save", "A")
    run_rcnn(two, "detections", "save", "A")
    assert (two / "detections/A.json").read_bytes() == (two / DETECT).read_bytes()


def test_a_dask_cluster_writes_the_same_bytes(two: Path, run_new_rcnn: Rcnn, put_params: Put) -> None:
    objects = two / "artifacts/objects/combine"

    def made(backend: str) -> tuple[str, dict[str, bytes]]:
        change(two, put_params, combine={"detectors": ["A"]}, execution={"backend": backend})
        said = run_new_rcnn(two, "run", "combine").stderr
        found = {str(p.relative_to(objects)): p.read_bytes() for p in objects.rglob("*") if p.is_file()}
        shutil.rmtree(objects)
        return said, found

    said, threads = made("local")
    assert "5 images computed" in said
    said, processes = made("dask")
    assert "combine: dask: 2 workers" in said
    assert len(threads) == 10
    assert processes == threads
