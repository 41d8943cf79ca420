"""``rcnn features crops``: Figures 2 and 7 of an image, in a file that replaces nobody's."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from small_files import voc_folder

from cache import Artifact, Payload, Recipe, Store
from manifests import ReadOptions, import_dataset, load_dataset, save_dataset
from stages.networks.network import build
from stages.networks.weights import save_weights

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pets(run: Run, project: Path, tmp_path: Path) -> Path:
    """A project with two training images of two objects each, fine-tuned weights, and proposals."""
    folder = voc_folder(tmp_path / "pets", {"train": 2, "test": 1}, objects=2)
    import_dataset("voc", folder, "pets", ReadOptions(), project / "artifacts")
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("dataset: scenes", "dataset: pets"))
    assert run("-C", project, "run", "manifest")[0] == 0
    weights = project / "artifacts/finetune/weights.safetensors"
    weights.parent.mkdir(parents=True)
    save_weights(weights, build("small", 3, generator=torch.Generator().manual_seed(0)))
    store, entries = Store(project / "artifacts"), []
    for record in load_dataset(project / "artifacts/manifest/manifest.json").images:
        boxes = np.array([[12, 10, 60, 50], [80, 60, 110, 80]], np.float32)  # the first covers an object
        recipe = Recipe("proposals", 1, {}, {"image": record.sha256})
        entries.append((record.id, store.put(recipe, Payload({"boxes": boxes}, {"count": 2}, "hdf5"))))
    (project / "artifacts/proposals").mkdir(parents=True)
    Artifact("proposals", 1, {}, {}, tuple(entries), {}).write(project / "artifacts/proposals/manifest.json")
    return project


def extent(path: Path) -> tuple[int, int]:
    pixels = cv2.imread(str(path))
    assert pixels is not None
    return pixels.shape[1], pixels.shape[0]


def test_figure_7_shows_each_object_in_each_way(run: Run, pets: Path, tmp_path: Path) -> None:
    out = tmp_path / "seven.png"
    code, said, _ = run("-C", pets, "features", "crops", "train0.jpg", "--out", out)
    assert code == 0
    assert said == (
        f"{out}: 2 objects of train0.jpg; rows: p = 0, p = 5; columns: region, square with context, "
        "square without, warp\n"
    )
    assert extent(out) == (4 * 68 + 4, 4 * 68 + 4)  # 64 px and a gap; two objects, two rows each
    assert run("-C", pets, "features", "crops", "1", "--out", out, "--regions", 1)[0] == 0  # ours: replaced
    assert extent(out) == (4 * 68 + 4, 2 * 68 + 4)


def test_figure_2_shows_what_fine_tuning_takes_for_objects(run: Run, pets: Path, tmp_path: Path) -> None:
    out = tmp_path / "two.jpg"
    code, said, _ = run("-C", pets, "features", "crops", "train1.jpg", "--figure", "2", "--out", out)
    assert (code, said) == (0, f"{out}: 3 of 3 windows of train1.jpg, warp, p = 5\n")
    assert extent(out) == (3 * 68 + 4, 68 + 4)


def test_figure_2_of_an_image_annotated_in_part_shows_its_objects(run: Run, pets: Path, tmp_path: Path) -> None:
    path, listed = pets / "artifacts/manifest/manifest.json", pets / "artifacts/proposals/manifest.json"
    dataset, proposals = load_dataset(path), Artifact.read(listed)
    part = dataset.image("train1.jpg")
    images = tuple(replace(image, exhaustive=image.id != part.id) for image in dataset.images)
    save_dataset(replace(dataset, images=images), path)
    # as the stage leaves it: such an image is not searched
    replace(proposals, entries=tuple(entry for entry in proposals.entries if entry[0] != part.id)).write(listed)
    out = tmp_path / "two.png"
    command = ("-C", pets, "features", "crops", "--figure", "2", "--out", out)
    assert run(*command, "train1.jpg") == (0, f"{out}: 2 of 2 windows of train1.jpg, warp, p = 5\n", "")
    assert run(*command, "train0.jpg") == (0, f"{out}: 3 of 3 windows of train0.jpg, warp, p = 5\n", "")


def test_what_cannot_be_drawn_is_one_line(run: Run, pets: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.png"
    mine.write_bytes(b"mine")
    cases = [
        (["train9.jpg", "--out", tmp_path / "x.png"], "there is no image 'train9.jpg'"),
        (["train0.jpg", "--out", tmp_path / "x.gif"], "the name of a picture ends in .png or .jpg"),
        (["train0.jpg", "--out", tmp_path / "no/x.png"], "no such folder; make it first"),
        (["train0.jpg", "--out", mine], "would be replaced, but rcnn did not write it"),
        (["train0.jpg", "--out", pets / "artifacts/x.png"], "is in the store of the project's results; nothing was"),
    ]
    for arguments, said in cases:
        code, _, error = run("-C", pets, "features", "crops", *arguments)
        assert code == 2 and said in error and len(error.splitlines()) == 1, arguments
    assert mine.read_bytes() == b"mine"
    assert run("-C", pets, "detector", "add", "faster", "--kind", "faster")[0] == 0
    code, _, error = run("-C", pets, "-d", "faster", "features", "crops", "1", "--out", tmp_path / "x.png")
    assert code == 2 and "detector faster: cuts no crops" in error
    (pets / "artifacts/finetune/weights.safetensors").unlink()
    code, _, error = run("-C", pets, "features", "crops", "1", "--out", tmp_path / "x.png")
    assert code == 2 and "no such weights file" in error and not (tmp_path / "x.png").exists()
