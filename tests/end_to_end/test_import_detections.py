"""Detections of another program, brought in: scored as they are, joined with others, refused where they do not fit."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml

from cache import Artifact, Store

Rcnn = Callable[..., "CompletedProcess[str]"]


def scores(path: Path) -> dict[str, float | None]:
    """Return every score of an evaluation, with and without box regression apart, by dotted name."""

    def leaves(part: Any, name: str) -> Iterator[tuple[str, float | None]]:
        if isinstance(part, dict):
            for key, value in part.items():
                yield from leaves(value, f"{name}.{key}")
        elif not isinstance(part, list):
            yield name, part

    found = json.loads(path.read_text())
    return dict(one for name in ("voc2007", "voc2010", "coco") for one in leaves(found[name], name))


@pytest.mark.slow
@pytest.mark.parametrize(("form", "path"), [("coco", "coco_bbox.json"), ("voc", ".")])
def test_our_own_results_have_the_scores_they_had(project: Path, run_rcnn: Rcnn, form: str, path: str) -> None:
    results = project.parent / "theirs"
    shutil.copytree(project / "reports/results", results)
    said = run_rcnn(project, "detections", "import", form, str(results / path), "--name", "theirs").stdout
    assert "detections/theirs.json" in said and "in 5 images" in said
    run_rcnn(project, "detector", "add", "external", "--kind", "combined", "--of", "theirs")
    run_rcnn(project, "-d", "external", "run", "combine", "evaluate")
    again, before = (scores(project / path) for path in ("reports/external/scores.json", "reports/scores.json"))
    assert len(before) > 20 and again == pytest.approx(before)
    assert "theirs" in run_rcnn(project, "detections", "ls").stdout
    assert run_rcnn(project, "cache", "ls", "imported").stdout.count("images/test_") == 5
    assert "all sound" in run_rcnn(project, "cache", "verify").stdout
    kept = len(Artifact.read(project / "detections/theirs.json").keys)
    run_rcnn(project, "cache", "gc", "--delete", "--workspace", "--grace", "0")
    store = Store(project / "artifacts")
    assert not store.missing("imported", Artifact.read(project / "detections/theirs.json").keys.values()) and kept == 5


@pytest.mark.slow
def test_like_scores_are_joined_and_others_refused(project: Path, run_rcnn: Rcnn) -> None:
    file = str(project / "reports/results/coco_bbox.json")
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["combine"]["detectors"] = ["theirs"]
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    run_rcnn(project, "detections", "import", "coco", file, "--name", "theirs")
    refused = run_rcnn(project, "run", "combine", check=False)
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
    assert "another program's scores need not be on the scale of these" in refused.stderr
    again = ("detections", "import", "coco", file, "--name", "theirs", "--scores", "svm")
    assert "choose another, or --force" in run_rcnn(project, *again, check=False).stderr
    run_rcnn(project, *again, "--force")
    run_rcnn(project, "run", "combine", "evaluate")
    assert Artifact.read(project / "artifacts/combine/manifest.json").stage == "combine"


@pytest.mark.slow
def test_what_is_wrong_registers_nothing(project: Path, run_rcnn: Rcnn) -> None:
    results = json.loads((project / "reports/results/coco_bbox.json").read_text())
    wrong = project.parent / "wrong.json"
    wrong.write_text(json.dumps([*results, results[0] | {"image_id": 10**6}, results[0] | {"score": float("nan")}]))
    refused = run_rcnn(project, "detections", "import", "coco", str(wrong), "--name", "w", check=False)
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 2
    assert not (project / "detections/w.json").exists() and not (project / "artifacts/objects/imported").exists()
    ours = str(project / "reports/results/coco_bbox.json")
    run_rcnn(project, "detections", "import", "coco", ours, "--name", "w")
    wrong.write_text(json.dumps(results[:-1]))
    refused = run_rcnn(project, "detections", "import", "coco", str(wrong), "--name", "w", check=False)
    assert refused.returncode == 2 and "choose another, or --force" in refused.stderr
    run_rcnn(project, "detections", "import", "coco", str(wrong), "--name", "w", "--force")
    missing = Artifact.read(project / "detections/w.json")
    shutil.rmtree(Store(project / "artifacts").path("imported", next(iter(missing.keys.values()))))
    run_rcnn(project, "detector", "add", "external", "--kind", "combined", "--of", "w")
    refused = run_rcnn(project, "-d", "external", "run", "combine", check=False)
    assert refused.returncode == 2 and "`rcnn detections import` of the same file brings them" in refused.stderr
    (project / "artifacts/manifest/manifest.json").unlink()
    refused = run_rcnn(project, "detections", "import", "coco", ours, "--name", "v", check=False)
    assert refused.returncode == 2 and "`dvc repro manifest`" in refused.stderr
