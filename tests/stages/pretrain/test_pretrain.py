"""Training from scratch: the classification set's file, its crops, and that it learns and resumes."""

import io
import zipfile
from collections import Counter
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from stage_context import Messages

from cache.errors import StageError
from stages.networks.network import build
from stages.networks.small import SmallNet
from stages.networks.spec import InputSpec
from stages.pretrain.batches import TrainingBatches, crop_boxes, held_out_batch, recolour, side_of_epoch
from stages.pretrain.from_scratch import check_sizes, pretrain
from stages.pretrain.pictures import LabelledPictures, read_classification
from stages.pretrain.settings import PretrainSettings
from stages.training.checkpoint import Checkpoint
from stages.training.cross_entropy import classify
from stages.training.loop import TrainingRun, torch_generator
from stages.training.solver import MomentumSGD


def toy() -> LabelledPictures:
    """Horizontal, vertical and no bars on noise, 20 px."""
    rng = np.random.default_rng(0)
    images = rng.integers(60, 160, (120, 20, 20, 3), dtype=np.uint8)
    labels = np.arange(120) % 3
    for image, label in zip(images, labels, strict=True):
        at = rng.integers(6, 12)
        if label == 0:
            image[at : at + 3] = 250
        elif label == 1:
            image[:, at : at + 3] = 250
    return LabelledPictures(images, labels, np.arange(120) < 90, np.full((120, 2), 20))


def fit(
    folder: Path, log: Messages | None = None, pyramid: tuple[int, ...] | None = None, **changes: Any
) -> tuple[Any, list[dict[str, float]]]:
    torch.set_num_threads(1)
    settings = PretrainSettings(**{"iterations": 24, "batch": 16, "lr": 0.02, "eval_every": 12, **changes})
    network = build("small", 3, pyramid=pyramid, generator=torch_generator(1, "pretrain", "initial weights"))
    rows = pretrain(
        network,
        toy(),
        settings,
        TrainingRun("pretrain", settings.iterations, settings.eval_every, 10, seed=1),
        Checkpoint(folder, {}),
        log or Messages(),
    )
    return network, rows


def test_learns_and_the_folded_network_scores_what_the_curve_says(tmp_path: Path) -> None:
    network, rows = fit(tmp_path)
    assert [row["iteration"] for row in rows] == [1, 12, 24]
    assert rows[-1]["val_loss"] < 0.7 * rows[0]["val_loss"]
    assert rows[-1]["val_accuracy"] > 0.7
    assert not [name for name in network.state_dict() if "norm" in name]
    batch = held_out_batch(toy(), np.arange(90, 120), network.input, (0.8, 1.0))
    losses, predicted, labels = classify(network, [batch])
    assert losses.mean() == pytest.approx(rows[-1]["val_loss"], rel=1e-4)
    assert (predicted == labels).mean() == rows[-1]["val_accuracy"]


def test_resumes_to_the_same_bits(tmp_path: Path) -> None:
    straight, curve = fit(tmp_path / "a", iterations=14)
    with pytest.raises(InterruptedError):
        fit(tmp_path / "b", Messages(12), iterations=14)
    resumed, resumed_curve = fit(tmp_path / "b", iterations=14)
    assert curve == resumed_curve
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.parametrize(("step", "drops"), [(2, [0, 0, 1, 1, 2, 2]), ((1, 4), [0, 1, 1, 1, 2, 2])])
def test_the_rate_drops_when_and_by_what_the_parameters_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: Any, drops: list[int]
) -> None:
    seen: list[tuple[float, float, float]] = []
    monkeypatch.setattr(MomentumSGD, "step", lambda s, rate: seen.append((rate, s.momentum, s.weight_decay)))
    fit(tmp_path, iterations=6, step=step, gamma=0.5, momentum=0.8, weight_decay=0.02)
    assert seen == [(0.02 * 0.5**n, 0.8, 0.02) for n in drops]


def test_crops_trained_on_have_the_sides_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes: list[np.ndarray] = []

    def recorded(*arguments: Any) -> np.ndarray:
        boxes.append(crop_boxes(*arguments))
        return boxes[-1]

    monkeypatch.setattr("stages.pretrain.batches.crop_boxes", recorded)
    spec = InputSpec(16)
    settings = PretrainSettings(batch=64, crop=0.5, crop_max=0.75)
    TrainingBatches(toy(), spec, settings, TrainingRun("pretrain", 1, 1, 1, seed=3), (16,))(0)
    assert set(boxes[0][:, 2] - boxes[0][:, 0]) == {10, 11, 12, 13, 14, 15}  # of 20 px


def test_random_crops_stay_inside_and_reach_every_corner() -> None:
    boxes = crop_boxes(np.full((2000, 2), 20), (0.9, 1), np.random.default_rng(0))
    assert boxes.dtype == np.float32
    widths = boxes[:, 2] - boxes[:, 0]
    np.testing.assert_array_equal(boxes[:, 3] - boxes[:, 1], widths)
    assert set(widths) == {18, 19, 20}
    assert {tuple(b) for b in boxes[widths == 18, :2]} == {(x, y) for x in range(3) for y in range(3)}
    assert (boxes >= 0).all() and (boxes <= 20).all()
    squares = crop_boxes(np.full((2, 2), 72), (0.75, 1), None)
    np.testing.assert_array_equal(squares, [[4, 4, 67, 67]] * 2)  # 54 and 72: 63
    whole = crop_boxes(np.array([[5, 5]]), (1, 1), np.random.default_rng(0))
    np.testing.assert_array_equal(whole, [[0, 0, 5, 5]])


def test_crops_of_oblong_pictures_are_squares_of_the_shorter_side_anywhere() -> None:
    shapes = np.repeat([[12, 30], [30, 12]], 4000, axis=0)
    boxes = crop_boxes(shapes, (0.5, 0.75), np.random.default_rng(0))
    extents = boxes[:, 2:] - boxes[:, :2]
    np.testing.assert_array_equal(extents[:, 0], extents[:, 1])
    assert set(extents[:, 0]) == {6, 7, 8, 9}
    assert (boxes >= 0).all() and (boxes[:, 2:] <= shapes).all()
    assert boxes[:4000, 1].max() == 24 and boxes[4000:, 0].max() == 24 and boxes[:4000, 0].max() == 6
    centre = crop_boxes(np.array([[256, 340]]), (0.875, 0.875), None)
    np.testing.assert_array_equal(centre, [[16, 58, 240, 282]])  # the paper's 224 of 256


def test_each_epoch_has_the_next_size() -> None:
    sides = [side_of_epoch(i, (224, 180, 150), n_train=90, batch=16) for i in range(23)]
    # epochs begin with the first batch that begins at or after picture 90, 180, 270, 360
    assert sides == [224] * 6 + [180] * 6 + [150] * 5 + [224] * 6
    assert {side_of_epoch(i, (224,), 90, 16) for i in range(30)} == {224}


def test_sizes_alternate_by_epoch_in_one_set_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    forward = SmallNet.forward

    def recorded(self: SmallNet, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            seen.append(x.shape[-1])
        return forward(self, x)

    monkeypatch.setattr(SmallNet, "forward", recorded)
    network, _ = fit(tmp_path, pyramid=(1, 2), sizes_px=(64, 48), iterations=14, eval_every=5)
    assert seen == [64] * 6 + [48] * 6 + [64] * 2  # 90 pictures in batches of 16
    own, _ = fit(tmp_path, pyramid=(1, 2), iterations=14)
    assert {k: v.shape for k, v in network.state_dict().items()} == {k: v.shape for k, v in own.state_dict().items()}
    assert any(not torch.equal(v, own.state_dict()[k]) for k, v in network.state_dict().items())


def test_multi_size_training_resumes_to_the_same_bits(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"pyramid": (1, 2), "sizes_px": (64, 48), "iterations": 14}
    straight, curve = fit(tmp_path / "a", **sizes)
    with pytest.raises(InterruptedError):
        fit(tmp_path / "b", Messages(12), **sizes)  # the checkpoint of iteration 10 lies in the second epoch
    resumed, resumed_curve = fit(tmp_path / "b", **sizes)
    assert curve == resumed_curve
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_altered_colours_are_of_training_alone(tmp_path: Path) -> None:
    own, curve = fit(tmp_path / "a", iterations=1, colour_std=0.0)
    altered, other = fit(tmp_path / "b", iterations=1, colour_std=3.0)
    assert curve[0]["train_loss"] != other[0]["train_loss"]
    assert any(not torch.equal(v, altered.state_dict()[k]) for k, v in own.state_dict().items())
    _, still = fit(tmp_path / "c", iterations=1, lr=1e-12, weight_decay=0.0, batch_norm=False, colour_std=0.0)
    _, moved = fit(tmp_path / "d", iterations=1, lr=1e-12, weight_decay=0.0, batch_norm=False, colour_std=3.0)
    assert still[0]["val_loss"] == pytest.approx(moved[0]["val_loss"], rel=1e-6)  # held-out pictures are as they are


def test_sizes_that_the_network_cannot_take_are_named(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"pretrain\.sizes_px: \[64, 48\] needs network\.pyramid"):
        fit(tmp_path, sizes_px=(64, 48))
    fit(tmp_path, sizes_px=(64,), iterations=1)
    network = build("alexnet", 3, pyramid=(1,))
    with pytest.raises(StageError, match=r"pretrain\.sizes_px: alexnet cannot take crops of 16 px"):
        check_sizes(network, (224, 16))


def test_crop_bounds_are_in_order() -> None:
    with pytest.raises(ValidationError, match=r"pretrain\.crop = 0\.9 is more than pretrain\.crop_max = 0\.8"):
        PretrainSettings(crop=0.9, crop_max=0.8)


def test_recoloured_pictures_are_all_twelve_variants() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    variants = [p[:, :, list(order)] for p in (picture, 255 - picture) for order in permutations(range(3))]
    found: Counter[int] = Counter()
    for image in recolour([picture] * 600, np.random.default_rng(1)):
        [which] = [k for k, variant in enumerate(variants) if np.array_equal(image, variant)]
        found[which] += 1
    assert len(found) == 12
    assert all(abs(n - 50) < 40 for n in found.values())  # 6 standard deviations


def test_dropout_is_back_after_training_without_it(tmp_path: Path) -> None:
    network, _ = fit(tmp_path, iterations=1)
    assert [m.p for m in network.modules() if isinstance(m, torch.nn.Dropout)] == [0.5, 0.5]
    without, with_it = (fit(tmp_path, iterations=1, dropout=d)[1][0]["train_loss"] for d in (False, True))
    assert not np.allclose(without, with_it)


GOOD: dict[str, Any] = {
    "images": np.zeros((4, 8, 8, 3), np.uint8),
    "labels": np.array([0, 1, 0, 1]),
    "train": np.array([True, True, False, False]),
}


def test_file_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", **GOOD, classes=np.array(["a", "b"]))
    data = read_classification(tmp_path / "c.npz")
    assert data.n_classes == 2
    assert data.labels.dtype == np.int64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((4, 8, 8, 3))}, r"images must be uint8 .* found float64"),
        ({"images": np.zeros((4, 8, 9, 3), np.uint8)}, r"images must be uint8"),
        ({"images": np.zeros((0, 8, 8, 3), np.uint8)}, "labels must be integers, one per image"),
        ({"labels": np.zeros(3, int)}, r"labels must be integers, one per image, found int64 \[3\]"),
        ({"labels": np.array([0, -1, 0, 0])}, "labels must be 0 or above, found -1"),
        ({"train": np.ones(4, bool)}, "train must be true for some"),
        ({"train": np.zeros(4, bool)}, "train must be true for some"),
        ({"train": np.array([1, 0, 1, 0])}, "train must be bool"),
        ({"labels": np.array([0, 1, 2, 1]), "train": np.array([1, 1, 0, 0], bool)}, "class 2 .* no training image"),
    ],
)
def test_bad_file_says_what_is_wrong(tmp_path: Path, change: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "c.npz", **(GOOD | change))
    with pytest.raises(StageError, match=message):
        read_classification(tmp_path / "c.npz")


def test_a_header_that_promises_too_much_takes_no_memory(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**12, 9, 9, 3)})
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue())
    with pytest.raises(StageError, match=r"c\.npz: not a readable .npz file \(it declares 243000000000000 bytes"):
        read_classification(tmp_path / "c.npz")


def test_missing_arrays_are_all_named_and_a_foreign_file_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", images=GOOD["images"])
    with pytest.raises(StageError, match=r"(?s)'labels' is missing.*'train' is missing"):
        read_classification(tmp_path / "c.npz")
    (tmp_path / "d.npz").write_bytes(b"not a zip")
    with pytest.raises(StageError, match="not a readable"):
        read_classification(tmp_path / "d.npz")
