"""The stage's entry: given weights in their normalised form, training, and a dataset without a classification set."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import save_file
from stage_context import Messages, StageContext

from cache import digest_file, digest_json
from cache.errors import StageError
from manifests import DatasetError, ReadOptions, decode_image, import_dataset, load_dataset
from stages.networks.network import build
from stages.networks.settings import InputSettings, NetworkSettings
from stages.networks.weights import class_names, load_weights
from stages.pretrain.pictures import registered_pictures
from stages.pretrain.settings import PretrainSettings


class FakeContext(StageContext):
    """A registered dataset without anything in it."""

    def __init__(self, root: Path, **network: Any) -> None:
        groups = {"network": NetworkSettings(**network), "pretrain": PretrainSettings(iterations=2, batch=4)}
        super().__init__(root, "pretrain", groups, seed=3)
        self.workers = 1
        self.place("registered").mkdir(exist_ok=True)


def test_given_weights_are_written_with_their_convention(tmp_path: Path) -> None:
    given = build("small", 7, generator=torch.Generator().manual_seed(0)).trunk.state_dict()
    save_file(given, tmp_path / "mine.safetensors")
    convention = InputSettings(color_order="bgr", mean=(1, 2, 3))
    FakeContext(tmp_path, weights="mine.safetensors", input=convention, pool5_grid=2).run()
    network = load_weights(tmp_path / "artifacts/pretrain/weights.safetensors")
    assert (network.n_outputs, network.pool5_grid) == (7, 2)
    assert (network.input.color_order, network.input.mean) == ("bgr", (1, 2, 3))
    for name, value in network.trunk.state_dict().items():
        assert torch.equal(value, given[name]), name
    assert (tmp_path / "artifacts/pretrain/curve.csv").read_text() == "iteration,train_loss,val_loss,val_accuracy\n"


def test_trains_on_the_datasets_classification_set(tmp_path: Path) -> None:
    ctx = FakeContext(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    file = tmp_path / "artifacts/datasets/toy/classification.npz"
    np.savez(file, images=images, labels=np.arange(12) % 4, train=np.arange(12) < 8)
    ctx.run()
    assert load_weights(tmp_path / "artifacts/pretrain/weights.safetensors").n_outputs == 4
    assert len((tmp_path / "artifacts/pretrain/curve.csv").read_text().splitlines()) == 3  # heading, iterations 1 and 2
    assert not list(ctx.work_dir().iterdir())


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ({}, 3),
        ({"checkpoint_every": 5}, 3),
        ({"lr": 0.01}, 1),
        ({"step": (2, 3)}, 1),
        ({"mirror": True}, 1),
        ({"sizes_px": (64,)}, 1),
    ],
)
def test_a_stopped_run_goes_on_only_with_the_same_parameters(
    tmp_path: Path, change: dict[str, Any], first: int
) -> None:
    ctx = FakeContext(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    file = tmp_path / "artifacts/datasets/toy/classification.npz"
    np.savez(file, images=images, labels=np.arange(12) % 4, train=np.arange(12) < 8)
    settings = PretrainSettings(iterations=4, batch=4, checkpoint_every=2)
    ctx.change(pretrain=settings)
    ctx.log = Messages(3)
    with pytest.raises(InterruptedError):
        ctx.run()
    ctx.change(pretrain=settings.model_copy(update=change))
    ctx.log = Messages()
    ctx.run()
    assert ctx.log.seen[0] == first


def register(tmp_path: Path) -> None:
    """Import the pictures, or import them again."""
    import_dataset("folders", tmp_path / "pictures", "toy", ReadOptions(), tmp_path / "artifacts")


def class_folders(tmp_path: Path, n: int = 12) -> Path:
    """A registered dataset of two classes, pictures of different sizes; returns its registered folder."""
    rng = np.random.default_rng(0)
    for i in range(n):
        file = tmp_path / "pictures" / ("train" if i < n - 2 else "test") / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20 + i % 9, 33 - i % 9, 3), np.uint8)).save(file)
    register(tmp_path)
    return tmp_path / "artifacts/datasets/toy"


def test_trains_on_class_folders_of_any_sizes_and_names_the_outputs(tmp_path: Path) -> None:
    ctx = FakeContext(tmp_path, pyramid=(1, 2))
    class_folders(tmp_path)
    ctx.run()
    network = load_weights(tmp_path / "artifacts/pretrain/weights.safetensors")
    assert (network.n_outputs, network.pyramid) == (2, (1, 2))
    assert class_names(tmp_path / "artifacts/pretrain/weights.safetensors") == ("a", "b")


def test_class_folders_are_held_out_by_seed_and_never_from_another_split(tmp_path: Path) -> None:
    folder = class_folders(tmp_path, 42)
    data, digest = registered_pictures(folder, "train", 0.25, seed=1)
    records = load_dataset(folder / "manifest.json").split("train")
    assert len(data.labels) == 40 and (~data.train).sum() == 10
    pictures = [[digest_file(tmp_path / "pictures" / record.file_name), record.category] for record in records]
    assert digest == digest_json({"classes": ["a", "b"], "pictures": pictures})
    np.testing.assert_array_equal(data.labels, [r.category for r in records])
    for row in (0, 7):
        pixels = decode_image((tmp_path / "pictures" / records[row].file_name).read_bytes(), "x")
        np.testing.assert_array_equal(data.images[row], pixels)
        assert tuple(data.shapes[row]) == (pixels.shape[1], pixels.shape[0])
    same, other = (registered_pictures(folder, "train", 0.25, seed=s)[0].train for s in (1, 2))
    np.testing.assert_array_equal(data.train, same)
    assert (data.train != other).any()
    assert (~registered_pictures(folder, "train", 0.001, seed=1)[0].train).sum() == 1
    with pytest.raises(DatasetError, match="no split 'val'"):
        registered_pictures(folder, "val", 0.25, seed=1)
    with pytest.raises(StageError, match="no picture of split 'test' is left to train on for"):
        registered_pictures(folder, "test", 0.5, seed=1)


def test_only_what_the_weights_are_trained_from_trains_them_again(tmp_path: Path) -> None:
    class_folders(tmp_path)

    def trained(network: dict[str, Any] | None = None, workers: int = 1, **changes: Any) -> bool:
        ctx = FakeContext(tmp_path, **(network or {}))
        ctx.update("pretrain", **changes)
        ctx.workers = workers
        ctx.run()
        return ctx.tally.computed == 1

    assert trained()
    first = (tmp_path / "artifacts/pretrain/weights.safetensors").read_bytes()
    assert not trained(workers=2)
    assert not trained(checkpoint_every=1)
    assert not trained({"batch": 7, "dtype": "bfloat16"})  # of the features, not of the training
    assert trained(lr=0.01)
    assert trained({"pool5_grid": 2})
    assert not trained()
    assert (tmp_path / "artifacts/pretrain/weights.safetensors").read_bytes() == first
    assert not list((tmp_path / "artifacts/checkpoints/pretrain").iterdir())
    Image.fromarray(np.full((40, 50, 3), 9, np.uint8)).save(tmp_path / "pictures/test/b/more.png")
    register(tmp_path)
    assert not trained()  # the test split's
    Image.fromarray(np.full((40, 50, 3), 9, np.uint8)).save(tmp_path / "pictures/train/b/more.png")
    register(tmp_path)
    assert trained()
    shutil.rmtree(tmp_path / "pictures")
    assert not trained()  # and no picture is read


def test_one_picture_cannot_be_normalised() -> None:
    assert PretrainSettings(batch=1, batch_norm=False).batch == 1
    with pytest.raises(ValidationError, match=r"pretrain\.batch must be at least 2"):
        PretrainSettings(batch=1)


def test_dataset_without_a_classification_set_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"no classification set; set network\.weights to"):
        FakeContext(tmp_path).run()
