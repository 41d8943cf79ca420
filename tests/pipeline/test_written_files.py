"""Commands that write where the user says replace what they wrote themselves, and nothing else unless told to."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dataset_files import imported_pets
from PIL import Image

from cache import Artifact, Payload, Recipe, Store
from manifests import ReadOptions, fonts, import_dataset

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pets(project: Path) -> Path:
    """The folder of an imported dataset's pictures."""
    return imported_pets(project)


def detected(project: Path) -> None:
    """Leave a result of one object in the project's store."""
    store = Store(project / "artifacts")
    key = store.put(Recipe("detect", 4, {}, {"image": 0}), Payload({}, {"image": "0.png", "count": 0}, "hdf5"))
    artifact = Artifact("detect", 4, {}, {}, ((0, key),), {"dataset": "scenes"})
    store.register(artifact)
    (project / "artifacts/detect").mkdir()
    artifact.write(project / "artifacts/detect/manifest.json")


def refused(run: Run, *arguments: object) -> str:
    code, printed, said = run(*arguments)
    assert code == 2 and printed == "", said
    (line,) = said.splitlines()
    return line


def test_a_contact_sheet_replaces_a_contact_sheet(run: Run, project: Path, pets: Path) -> None:
    sheet = project / "new/sheet.png"
    show = ("-C", project, "dataset", "show", "pets", "--sheet", sheet)
    for count in (1, 4):
        assert run(*show, "--count", count)[0] == 0
    first = sheet.read_bytes()
    sheet.write_bytes(b"something else")
    assert f"{sheet}: would be replaced" in (line := refused(run, *show)) and "--force" in line
    assert sheet.read_bytes() == b"something else"
    assert run(*show, "--force")[0] == 0
    assert sheet.read_bytes() == first


def test_a_contact_sheet_is_no_picture_of_the_dataset(run: Run, project: Path, pets: Path) -> None:
    for name in ("train/cat/train.png", "train/cat/new.png", "new.png"):
        line = refused(run, "-C", project, "dataset", "show", "pets", "--sheet", pets / name, "--force")
        assert "folder of dataset pets's images" in line
    assert {path.name for path in pets.rglob("*.*")} == {"train.png", "test.png"}


def test_the_sheet_in_reports_needs_no_word(run: Run, project: Path, pets: Path) -> None:
    (project / "reports").mkdir()
    (project / "reports/dataset-pets.png").write_bytes(b"of a version that kept no record")
    assert run("-C", project, "dataset", "show", "pets")[0] == 0


@pytest.mark.parametrize(("option", "in_way"), [("--npy", "x.npy"), ("--npy", "x.regions.npz"), ("--parquet", "x.pq")])
def test_an_export_is_refused_before_anything_is_read(run: Run, project: Path, option: str, in_way: str) -> None:
    """The project has no features: what says so comes after what is in the way was looked for."""
    (project / in_way).write_bytes(b"the user's")
    target = project / ("x.npy" if option == "--npy" else in_way)
    command = ("-C", project, "features", "export", option, target)
    assert f"{project / in_way}: would be replaced" in (line := refused(run, *command)) and "--force" in line
    assert "run `dvc repro`" in refused(run, *command, "--force")
    assert {path.name for path in project.iterdir()} == {"params.yaml", in_way}


@pytest.mark.parametrize("place", ["artifacts", "data/train/cat"])
def test_no_export_among_results_and_pictures(run: Run, project: Path, pets: Path, place: str) -> None:
    line = refused(run, "-C", project, "features", "export", "--npy", project / place / "x.npy", "--force")
    assert "nothing was written" in line


def test_a_push_goes_to_a_store_or_makes_one_beside_nothing_of_its_names(run: Run, project: Path, pets: Path) -> None:
    detected(project)
    other = project / "other"
    (other / "tmp").mkdir(parents=True)
    (other / "tmp/holiday.jpg").write_bytes(b"the user's")
    assert "is no store, but holds tmp/" in refused(run, "-C", project, "cache", "push", other)
    assert [path.name for path in other.rglob("*")] == ["tmp", "holiday.jpg"]
    assert "folder of dataset pets's images" in refused(run, "-C", project, "cache", "push", pets / "store")
    (other / "holiday.jpg").write_bytes(b"the user's")
    (other / "tmp").rename(other / "photos")
    for done in ("1 objects", "0 objects"):
        code, said, _ = run("-C", project, "cache", "push", other)
        assert code == 0 and said.startswith(done)
    assert (other / "holiday.jpg").read_bytes() == (other / "photos/holiday.jpg").read_bytes() == b"the user's"


def test_a_sheet_says_once_which_letters_cannot_be_drawn(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fonts, "_system_fonts", lambda: ())
    fonts._best_font.cache_clear()
    for split in ("train", "test"):
        for name in ("止血钳", "Ножницы"):
            path = project / "data" / split / name / f"{split}.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(np.full((30, 40, 3), len(name), np.uint8)).save(path)
    import_dataset("folders", project / "data", "pets", ReadOptions(), project / "artifacts")
    code, _, said = run("-C", project, "dataset", "show", "pets")
    fonts._best_font.cache_clear()
    assert code == 0
    (line,) = said.splitlines()
    assert all(letter in line for letter in "止血钳") and "Ножницы" not in line and "install a font" in line
