"""The pipeline on a store at a URL, and a colleague who pulls what another computed."""

import filecmp
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Rcnn = Callable[..., subprocess.CompletedProcess[str]]
STAGES = ("proposals", "features", "svm", "bbox", "detect", "combine", "evaluate")


def files_of(store: Path) -> dict[str, Path]:
    return {str(path.relative_to(store)): path for path in (store / "objects").rglob("*") if path.is_file()}


def computed(run: subprocess.CompletedProcess[str]) -> list[int]:
    """Objects that the per-image stages computed, from what they say."""
    return [int(n) for n in re.findall(r": (\d+) images computed", run.stderr)]


@pytest.fixture
def url(s3_bucket: str) -> str:
    return f"{s3_bucket}/{os.urandom(6).hex()}"


def test_a_colleague_pulls_and_has_nothing_to_compute(project: Path, finished: Path, url: str, run_rcnn: Rcnn) -> None:
    assert " 39 objects, " in f" {run_rcnn(project, 'cache', 'push', url).stdout}"
    for part in ("objects", "refs", "tmp"):
        shutil.rmtree(project / "artifacts" / part)
    failed = run_rcnn(project, "run", "svm", check=False)
    assert failed.returncode == 2
    assert "`dvc repro -f -s features`" in failed.stderr
    assert "39 objects" in run_rcnn(project, "cache", "pull", url).stdout
    assert "0 objects" in run_rcnn(project, "cache", "pull", url).stdout
    assert computed(run_rcnn(project, "run", *STAGES)) == [0, 0, 0]
    mine, theirs = files_of(project / "artifacts"), files_of(finished / "artifacts")
    assert mine.keys() == theirs.keys()
    assert all(filecmp.cmp(path, theirs[name], shallow=False) for name, path in mine.items())
    assert (project / "reports/scores.json").read_bytes() == (finished / "reports/scores.json").read_bytes()


def test_the_pipeline_runs_on_a_store_at_a_url(
    project: Path, finished: Path, url: str, run_rcnn: Rcnn, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(project / "artifacts/objects")
    monkeypatch.setenv("RCNN_STORE", url)
    assert computed(run_rcnn(project, "run", "pretrain", "finetune", *STAGES)) == [15, 15, 5]
    assert not (project / "artifacts/objects").exists()
    for name in ("reports/scores.json", "artifacts/svm/model.h5", "artifacts/features/manifest.json"):
        assert (project / name).read_bytes() == (finished / name).read_bytes()
    assert computed(run_rcnn(project, "run", *STAGES)) == [0, 0, 0]
    assert "39 objects" in run_rcnn(project, "cache", "verify").stdout
    assert "features" in run_rcnn(project, "cache", "ls").stdout
    assert "0 entries" in run_rcnn(project, "cache", "gc").stdout
    assert f"store: {url}" in run_rcnn(project, "cache", "du").stderr
