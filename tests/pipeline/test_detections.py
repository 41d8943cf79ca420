"""``rcnn detections save`` and ``ls`` on made-up detections; in whole projects: end_to_end/test_combine_project.py."""

from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
from click.testing import CliRunner

from cache import Artifact, Payload, Recipe, Store
from cache.errors import ParamsError
from pipeline.cli import cli

DETECT = Path("artifacts/detect/manifest.json")
SUMMARY = {"dataset": "scenes", "classes": ["cat"], "classifier": "svm", "regressed": True, "rank_factor": 40}


def detected(project: Path, seed: int = 0, **summary: Any) -> Artifact:
    """A project whose last run left two images' detections."""
    project.mkdir(exist_ok=True)
    (project / "params.yaml").write_text("dataset: scenes\n")
    store, entries = Store(project / "artifacts"), []
    for i in range(2):
        recipe = Recipe("detect", 4, {}, {"image": i, "seed": seed})
        entries.append((i, store.put(recipe, Payload({}, {"image": f"{i}.png", "count": 0}, "hdf5"))))
    about = SUMMARY | {"images": ["0" * 64, "1" * 64]} | summary
    artifact = Artifact("detect", 4, {}, {}, tuple(entries), about)
    (project / DETECT).parent.mkdir(parents=True, exist_ok=True)
    artifact.write(project / DETECT)
    return artifact


@pytest.fixture
def project(tmp_path: Path) -> Path:
    detected(tmp_path / "project", detector="small, warp, svm on fc7, boxes by pool5")
    return tmp_path / "project"


def rcnn(project: Path, *arguments: str) -> str:
    done = CliRunner().invoke(cli, ["-C", str(project), "detections", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_what_is_saved_says_which_detector_made_it(project: Path) -> None:
    said = rcnn(project, "save", "A")
    assert "A.json: small, warp, svm on fc7, boxes by pool5; 2 images; combine.detectors: [A]" in said
    assert (project / "detections/A.json").read_bytes() == (project / DETECT).read_bytes()
    detected(project)  # by an older version, which did not say
    assert "B.json: svm; 2 images" in rcnn(project, "save", "B")
    header, a, b = rcnn(project, "ls").splitlines()
    assert header.split() == ["name", "dataset", "images", "detector"]
    assert a.split(maxsplit=3) == ["A", "scenes", "2", "small, warp, svm on fc7, boxes by pool5"]
    assert b.split() == ["B", "scenes", "2", "svm"]


def test_another_projects_come_with_their_objects_and_gaps_are_counted(project: Path, tmp_path: Path) -> None:
    theirs = detected(tmp_path / "other", seed=1, detector="zf5, spp, svm on fc7, boxes as proposed")
    rcnn(project, "save", "theirs", "--from", str(tmp_path / "other"))
    assert rcnn(project, "ls").splitlines()[1].endswith("boxes as proposed")
    rmtree(Store(project / "artifacts").path("detect", theirs.keys[1]))
    assert rcnn(project, "ls").splitlines()[1].endswith("boxes as proposed  1 missing")


def test_no_other_file_and_no_link_is_replaced(project: Path, tmp_path: Path) -> None:
    saved = project / "detections/A.json"
    saved.parent.mkdir()
    for put in (lambda: saved.symlink_to(tmp_path / "elsewhere"), lambda: saved.write_bytes(b"the user's")):
        put()
        done = CliRunner().invoke(cli, ["-C", str(project), "detections", "save", "A"])
        assert isinstance(done.exception, ParamsError) and "A.json: other detections are saved" in str(done.exception)
        saved.unlink()
    rcnn(project, "save", "A")
    rcnn(project, "save", "A")
    saved.write_bytes(b"the user's")
    rcnn(project, "save", "A", "--force")
    assert saved.read_bytes() == (project / DETECT).read_bytes()
