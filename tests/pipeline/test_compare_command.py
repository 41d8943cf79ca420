"""What ``rcnn compare`` refuses: one line each, exit 2, and nothing of the project is another after it."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from made_detections import CLASSES, N_IMAGES, made, record

from cache import Artifact
from manifests import Dataset, save_dataset
from pipeline import cli
from pipeline.graph import final_detections

ROOT = Path(__file__).parents[2]
SHIPPED = ("params.yaml", "detectors/sppnet/params.yaml")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped detectors, which have not run."""
    monkeypatch.delenv("RCNN_STORE", raising=False)
    for name in SHIPPED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    params = yaml.safe_load((tmp_path / "params.yaml").read_text()) | {"store": {"root": "store"}, "dataset": "toy"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    for folder in ("manifest", "proposals"):
        (tmp_path / "artifacts" / folder).mkdir(parents=True)
    images = tuple(record(i, f"{i}.png") for i in range(1, N_IMAGES + 1))
    save_dataset(Dataset("toy", CLASSES, images), tmp_path / "artifacts/manifest/manifest.json")
    Artifact("proposals", 1, {}, {}, (), {}).write(tmp_path / "artifacts/proposals/manifest.json")
    return tmp_path


def put(project: Path, detector: str, artifact: Artifact) -> None:
    """Leave these detections as the detector's last results."""
    path = project / final_detections(detector)
    path.parent.mkdir(parents=True)
    artifact.write(path)


def refused(
    project: Path,
    names: Sequence[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> str:
    """The last line that the refused comparison says."""
    capsys.readouterr()
    monkeypatch.chdir("/")
    monkeypatch.setattr("sys.argv", ["rcnn", "-C", str(project), "compare", *names])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    said = capsys.readouterr()
    assert (stop.value.code, said.out) == (2, "")
    assert "Traceback" not in said.err
    assert not (project / "reports").exists()
    return said.err.splitlines()[-1]


def test_detectors_that_never_ran(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(project, [], monkeypatch, capsys)
    assert line == "rcnn: no detector has results yet; run `dvc repro`"
    put(project, "rcnn", made(project, 0))
    line = refused(project, ["rcnn", "sppnet"], monkeypatch, capsys)
    assert line == "rcnn: sppnet: no results yet; run `dvc repro detectors/sppnet/dvc.yaml`"
    line = refused(project, ["rcnn", "spnet"], monkeypatch, capsys)
    assert line.startswith("rcnn: there is no detector 'spnet' (did you mean 'sppnet'?); there are: rcnn, sppnet")
    assert "a detector is named twice" in refused(project, ["rcnn", "rcnn"], monkeypatch, capsys)


@pytest.mark.parametrize(
    ("ids", "classes", "said"),
    [
        ((1, 2, 4), CLASSES, "sppnet was tested on 3 images and rcnn on 3, of which 2 are the same"),
        ((1, 2), CLASSES, "sppnet was tested on 2 images and rcnn on 3, of which 2 are the same"),
        ((1, 2, 3), ("cat", "cow"), "do not detect the same classes: cow only sppnet's, dog only rcnn's"),
        ((1, 2, 3), ("dog", "cat"), "do not detect the same classes: they are in another order"),
    ],
)
def test_results_on_other_images_or_classes(
    project: Path,
    ids: Sequence[int],
    classes: Sequence[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put(project, "rcnn", made(project, 0))
    put(project, "sppnet", made(project, 1, ids, classes=list(classes)))
    line = refused(project, [], monkeypatch, capsys)
    assert line.startswith("rcnn: comparison: sppnet ") and said in line
    assert line.endswith("run `dvc repro` for both on the dataset as it is now")
