"""``rcnn dataset split``: balanced halves of a registered dataset."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dataset_files import jpeg, voc_object, voc_xml

from cache.errors import StageError
from manifests import Dataset, ImageRecord, load_registered, register
from manifests.select import select

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def imported(run: Run, project: Path) -> Path:
    """Register ``mine``: 9 images, of which 8 are in split val."""
    root = project / "voc"
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    for number, image_id in enumerate("abcdefghi"):
        objects = voc_object("cat", (1, 1, 10, 10)) * (number % 3 + 1) + voc_object("dog", (3, 3, 30, 20))
        (root / "Annotations" / f"{image_id}.xml").write_text(voc_xml(objects))
        (root / "JPEGImages" / f"{image_id}.jpg").write_bytes(jpeg(seed=number))
    (root / "ImageSets/Main/val.txt").write_text("\n".join("abcdefgh"))
    (root / "ImageSets/Main/test.txt").write_text("i\n")
    assert run("-C", project, "dataset", "import", "voc", root, "--name", "mine")[0] == 0
    return project


def test_halves_can_be_trained_and_tested_on(run: Run, imported: Path) -> None:
    code, out, err = run("-C", imported, "dataset", "split", "mine", "--halves", "val1", "val2", "--of", "val")
    assert code == 0 and err.startswith("split: 10/10 trials, ") and len(err.splitlines()) == 1
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["class", "val1", "val2", "imbalance"]
    assert [row[0] for row in rows[1:4]] == ["cat", "dog", "images"]
    assert int(rows[1][1]) + int(rows[1][2]) == 15 and int(rows[2][1]) + int(rows[2][2]) == 8
    dataset = load_registered("mine", imported / "artifacts").dataset
    halves = [{image.name for image in dataset.split(name)} for name in ("val1", "val2")]
    assert halves[0] | halves[1] == set("abcdefgh") and not halves[0] & halves[1]
    chosen = select(dataset, "val1", "val2", None)
    assert {image.name for image in chosen.split("train")} == halves[0]
    run("-C", imported, "dataset", "refresh", "mine")
    assert load_registered("mine", imported / "artifacts").dataset == dataset


def test_the_same_seed_gives_the_same_halves(run: Run, imported: Path) -> None:
    for name in ("x", "y"):
        assert run("-C", imported, "dataset", "split", "mine", "--halves", "a", "b", "--name", name)[0] == 0
    first, second = (load_registered(name, imported / "artifacts").dataset for name in ("x", "y"))
    assert first.images == second.images
    assert load_registered("mine", imported / "artifacts").dataset.splits == ("test", "val")


def test_an_odd_image_is_in_both_halves_where_it_is_asked_to(run: Run, imported: Path) -> None:
    """The authors' code does so; it stays so when the dataset is read again, and no run may train and test on it."""
    arguments = ("-C", imported, "dataset", "split", "mine", "--halves", "a", "b")
    code, out, err = run(*arguments, "--odd", "twice")
    dataset = load_registered("mine", imported / "artifacts").dataset
    a, b = ({image.name for image in dataset.split(name)} for name in ("a", "b"))
    (both,) = a & b
    assert code == 0 and a | b == set("abcdefghi") and out.splitlines()[3].split() == ["images", "5", "5"]
    assert err.splitlines()[1].startswith(f"{both}.jpg is in both halves, as by the authors' code")
    with pytest.raises(StageError, match="share 1 images"):
        select(dataset, "a", "b", None)
    run("-C", imported, "dataset", "refresh", "mine")
    assert load_registered("mine", imported / "artifacts").dataset == dataset


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["none", "--halves", "a", "b"], "dataset 'none' is not registered"),
        (["mine", "--halves", "a", "b", "--of", "vall"], "no split 'vall'; choose one of: test, val"),
        (["mine", "--halves", "a", "b", "--of", "test"], "1 images cannot be halved"),
        (["mine", "--halves", "val", "b"], "--halves val: dataset mine has a split of this name already"),
        (["mine", "--halves", "a", "a"], "both are called a"),
        (["mine", "--halves", "a/b", "c"], "--halves a/b: use 1 to 64 letters"),
        (["mine", "--halves", "a", "b", "--name", "mine"], "--name mine: a dataset of this name is registered"),
        (["mine", "--halves", "a", "b", "--name", "no name"], "dataset name 'no name'"),
        (["made", "--halves", "a", "b"], "made by the pipeline (scenes)"),
    ],
)
def test_what_cannot_be_split(run: Run, imported: Path, arguments: list[str], expected: str) -> None:
    one = ImageRecord(1, "a.jpg", 9, 9, "0" * 64, "train", np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    register(Dataset("made", ("x",), (one,)), imported, {}, imported / "artifacts", source_format="scenes")
    code, out, err = run("-C", imported, "dataset", "split", *arguments)
    assert (code, out) == (2, "")
    assert expected in err
    assert load_registered("mine", imported / "artifacts").dataset.splits == ("test", "val")


def test_an_import_says_which_splits_are_annotated_in_part(run: Run, imported: Path) -> None:
    command = ("-C", imported, "dataset", "import", "voc", imported / "voc", "--name", "mine", "--in-part")
    assert run(*command, "val")[0] == 0
    images = load_registered("mine", imported / "artifacts").dataset.images
    assert {image.split: image.exhaustive for image in images} == {"val": False, "test": True}
    assert "split val: 8 images are not exhaustively annotated" in run("-C", imported, "dataset", "show", "mine")[1]
    code, _, err = run(*command, "vall")
    assert code == 2 and "--in-part vall: the dataset has no such split (did you mean 'val'?)" in err
