"""``rcnn detect`` replaces no file of the user's: it says so before it looks for a detector, and writes nothing."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cache.outputs import OutputFolder
from manifests import ReadOptions, import_dataset

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "b.png"):
        Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(folder / name)
    return folder


def links_of_photos(tmp: Path) -> Path:
    """A folder whose a.jpg and b.jpg are links to the photographs, one of them a hard link."""
    folder = tmp / "links"
    folder.mkdir()
    (folder / "a.jpg").symlink_to(tmp / "photos/a.jpg")
    (folder / "b.jpg").hardlink_to(tmp / "photos/b.png")
    return folder


def linked_folder(tmp: Path) -> Path:
    (tmp / "link").symlink_to("photos")
    return tmp / "link"


def unrelated(tmp: Path) -> Path:
    folder = tmp / "unrelated"
    folder.mkdir()
    (folder / "detections.json").write_text("[]")
    return folder


def drawn_and_edited(tmp: Path) -> Path:
    out = OutputFolder(tmp / "edited", "")
    out.prepare()
    out.write("a.jpg", b"drawn")
    (tmp / "edited/a.jpg").write_bytes(b"drawn, and cropped by the user")
    return tmp / "edited"


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("as_folder", [False, True])
@pytest.mark.parametrize(
    "place", [lambda tmp: tmp / "photos", links_of_photos, linked_folder, unrelated, drawn_and_edited]
)
def test_nothing_that_is_there_is_replaced(
    run: Run, project: Path, photos: Path, place: Callable[[Path], Path], as_folder: bool
) -> None:
    out = place(project)
    before = files(project)
    code, printed, said = run("-C", project, "detect", photos if as_folder else photos / "a.jpg", "--out", out)
    assert code == 2 and printed == ""
    (line,) = said.splitlines()
    assert str(out) in line and "would be replaced" in line and "--out" in line
    assert files(project) == before


def test_the_working_folder_is_a_folder_like_any_other(
    run: Run, project: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    for given in ("a.jpg", "."):
        code, _, said = run("-C", os.path.relpath(project, photos), "detect", given, "--out", ".")
        assert code == 2 and said.startswith("rcnn: a.jpg: would be replaced")


def test_a_free_place_comes_to_the_detector(run: Run, project: Path, photos: Path) -> None:
    """What lies in the way of nothing is no matter: the next thing to be looked for is the trained detector."""
    (photos / "other.txt").touch()
    code, _, said = run("-C", project, "detect", photos / "b.png", "--out", photos)
    assert code == 2 and "run `dvc repro`" in said
    assert set(files(photos)) == {"a.jpg", "b.png", "other.txt"}


def class_folders(parent: Path) -> Path:
    """Pictures to import, in a folder of their own."""
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            path = parent / split / name / f"{split}.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(np.full((30, 40, 3), len(path.parts), np.uint8)).save(path)
    return parent


@pytest.mark.parametrize("inside", ["", "train/cat", "train/cat/new", "new/deep"])
def test_no_folder_of_a_datasets_images_is_written_to(run: Run, project: Path, photos: Path, inside: str) -> None:
    data = class_folders(project / "data")
    import_dataset("folders", data, "pets", ReadOptions(), project / "artifacts")
    before = files(project)
    code, _, said = run("-C", project, "detect", photos, "--out", data / inside)
    assert code == 2 and "folder of dataset pets's images" in said
    assert files(project) == before


def test_nor_of_a_dataset_that_holds_the_project(run: Run, project: Path, photos: Path) -> None:
    data = class_folders(project / "data")
    inner = data / "project"
    import_dataset("folders", data, "pets", ReadOptions(), inner / "artifacts")
    (project / "params.yaml").rename(inner / "params.yaml")
    code, _, said = run("-C", inner, "detect", photos, "--out", data / "train/cat/new")
    assert code == 2 and "folder of dataset pets's images" in said
    code, _, said = run("-C", inner, "detect", photos, "--out", inner / "out")
    assert code == 2 and "run `dvc repro`" in said


@pytest.mark.parametrize("inside", ["artifacts", "artifacts/detect", "artifacts/new"])
def test_nor_the_folder_of_results(run: Run, project: Path, photos: Path, inside: str) -> None:
    code, _, said = run("-C", project, "detect", photos, "--out", project / inside)
    assert code == 2 and "results" in said
    assert not (project / "artifacts").exists()


def test_a_score_and_a_precision_are_not_asked_for_together(run: Run, project: Path, photos: Path) -> None:
    arguments = ("detect", photos, "--out", project / "out", "--min-precision", "0.5")
    code, _, err = run("-C", project, *arguments, "--min-score", "1")
    assert code == 2 and "--min-score and --min-precision: give one of the two" in err
    code, _, err = run("-C", project, "detect", photos, "--out", project / "out", "--min-precision", "1.5")
    assert code == 2 and "--min-precision" in err
    assert not (project / "out").exists()
