"""In DVC's copy of a project an experiment finds the project's store, and the pictures that git does not track."""

import shutil
from pathlib import Path

import pytest
from dataset_files import imported_pets

from manifests import DatasetError, ImageSource
from pipeline.context import store_root
from pipeline.detectors import Layout
from pipeline.params import load_params

REGISTERED = Path("artifacts/datasets/pets")


@pytest.fixture(params=[".dvc/tmp/exps/standalone/tmpab", ".dvc/tmp/exps/tmpab"])
def copy(request: pytest.FixtureRequest, project: Path) -> Path:
    """A copy as DVC makes it, of a project with an imported dataset in its folder ``data``."""
    imported_pets(project)
    folder: Path = project / request.param
    folder.mkdir(parents=True)
    shutil.copy(project / "params.yaml", folder)
    return folder


def test_the_store_is_the_projects(copy: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RCNN_STORE", raising=False)
    params = load_params(Layout(copy))
    assert store_root(copy, params) == store_root(project, params) == project / "artifacts"
    monkeypatch.setenv("RCNN_STORE", "/elsewhere")
    assert store_root(copy, params) == Path("/elsewhere")


@pytest.mark.parametrize("with_list", [True, False])
@pytest.mark.parametrize("with_pictures", [True, False])
def test_pictures_are_read_from_the_copy_or_from_the_project(
    copy: Path, project: Path, with_list: bool, with_pictures: bool
) -> None:
    if with_list:
        shutil.copytree(project / REGISTERED, copy / REGISTERED)
    if with_pictures:
        shutil.copytree(project / "data", copy / "data")
    source = ImageSource.registered(copy / REGISTERED)
    assert source.root == ((copy if with_list and with_pictures else project) / "data").resolve()
    assert source.file_bytes("train/cat/train.png") == (project / "data/train/cat/train.png").read_bytes()


def test_what_the_project_lacks_too_is_told(copy: Path, project: Path) -> None:
    shutil.rmtree(project / "data")
    with pytest.raises(DatasetError, match="not there any more"):
        ImageSource.registered(copy / REGISTERED).file_bytes("train/cat/train.png")
    shutil.rmtree(project / REGISTERED)
    with pytest.raises(DatasetError, match=r"source\.json"):
        ImageSource.registered(copy / REGISTERED)
