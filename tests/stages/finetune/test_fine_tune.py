"""Fine-tuning end to end on a toy set: batches are the warps they should be, and it learns."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stage_context import Messages

from cache.errors import StageError
from stages.boxes.geometry import iou
from stages.features.warp import warp_regions
from stages.finetune.batches import WarpedWindows, warped_windows
from stages.finetune.fine_tune import FineTuned, check_windows, fine_tune, measure, training_run
from stages.finetune.settings import FinetuneSettings
from stages.finetune.windows import Windows, concatenate, image_windows
from stages.networks.network import Network, build
from stages.networks.spec import InputSpec
from stages.training.checkpoint import Checkpoint
from stages.training.cross_entropy import LabelledBatch
from stages.training.loop import torch_generator

SPEC = InputSpec(32, "bgr", 255.0, (104.0, 117.0, 123.0))


def batches_of(images: list[np.ndarray], spec: InputSpec) -> WarpedWindows:
    return warped_windows(images.__getitem__, spec, mode="warp", context_px=4, cache_bytes=10**6)


def test_batch_is_each_windows_warp_in_order_and_mirrored_where_asked() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (40, 60, 3), dtype=np.uint8) for _ in range(3)]
    corners = rng.uniform(0, 25, (9, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(8, 30, (9, 2))], 1).astype(np.float32)
    windows = Windows(np.array([2, 0, 1, 2, 0, 0, 1, 2, 2]), boxes, np.arange(9))
    flips = np.array([0, 1, 0, 1, 1, 0, 0, 0, 1], bool)
    batch = batches_of(images, SPEC).batch(windows, flips)
    assert batch.inputs.dtype == np.float32
    np.testing.assert_array_equal(batch.labels, np.arange(9))
    for i in range(9):
        crop = warp_regions(images[windows.images[i]], boxes[i : i + 1], SPEC, mode="warp", context_px=4)[0]
        np.testing.assert_array_equal(batch.inputs[i], crop[:, :, ::-1] if flips[i] else crop)


def test_windows_are_padded_as_the_features_will_be() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    boxes = np.array([[0, 0, 20, 30]], np.float32)
    read, windows = [image].__getitem__, Windows(np.zeros(1, np.int64), boxes, np.ones(1, np.int64))
    made = warped_windows(read, SPEC, mode="square", context_px=4, padding="replicate", cache_bytes=10**6)
    expected = warp_regions(image, boxes, SPEC, mode="square", context_px=4, padding="replicate")
    assert np.array_equal(made.batch(windows).inputs, expected)
    assert not np.array_equal(expected, warp_regions(image, boxes, SPEC, mode="square", context_px=4))


def test_no_foreground_is_an_error_and_no_background_a_warning() -> None:
    log = Messages()
    one = np.zeros((1, 4), np.float32)
    with pytest.raises(StageError, match="no window of the train split"):
        check_windows(Windows(np.array([0]), one, np.array([0])), log)
    check_windows(Windows(np.array([0]), one, np.array([2])), log)
    assert "no background" in log.warnings[0]


def toy() -> tuple[list[np.ndarray], Windows, Windows]:
    """Images with a red square or a green one, random proposals; the last image is held out."""
    rng = np.random.default_rng(1)
    images, parts = [], []
    for index in range(10):
        image = rng.integers(80, 140, (80, 80, 3), dtype=np.uint8)
        x, y = rng.integers(5, 45, 2)
        label = index % 2
        image[y : y + 30, x : x + 30] = (220, 20, 20) if label == 0 else (20, 220, 20)
        gt = np.array([[x, y, x + 30, y + 30]], np.float32)
        near = gt + rng.uniform(-5, 5, (6, 4)).astype(np.float32)
        corner = rng.uniform(0, 50, (30, 2))
        away = np.concatenate([corner, corner + 25], 1).astype(np.float32)
        away = away[iou(away, gt)[:, 0] < 0.1]
        boxes, labels = image_windows(
            gt, np.array([label]), np.zeros(1, bool), np.concatenate([near, away]), n_classes=2
        )
        images.append(image)
        parts.append(Windows(np.full(len(labels), index), boxes, labels))
    return images, concatenate(parts[:8]), concatenate(parts[8:])


def tuned(folder: Path, held_out: Windows | None = None, **changes: Any) -> tuple[Network, FineTuned]:
    torch.set_num_threads(1)
    images, training, aside = toy()
    values: dict[str, Any] = {"iterations": 30, "fg_per_batch": 4, "bg_per_batch": 6, "lr": 0.002, "eval_every": 15}
    settings = FinetuneSettings(**(values | changes))
    network = build("small", 7, generator=torch_generator(0, "test", "weights"))
    found = fine_tune(
        network,
        training,
        aside if held_out is None else held_out,
        batches_of(images, network.input),
        settings,
        training_run(settings, seed=0, workers=2),
        Checkpoint(folder, {}),
        Messages(),
        n_classes=2,
    )
    return network, found


def tune(folder: Path, held_out: Windows | None = None, **changes: Any) -> tuple[Network, list[dict[str, float]]]:
    network, found = tuned(folder, held_out, **changes)
    return network, found.curve


def test_learns_a_toy_set(tmp_path: Path) -> None:
    network, rows = tune(tmp_path)
    assert network.n_outputs == 3
    assert [row["iteration"] for row in rows] == [1, 15, 30]
    assert rows[-1]["val_loss"] < 0.6 * rows[0]["val_loss"]
    assert rows[-1]["val_fg_accuracy"] > 0.9
    assert rows[-1]["val_accuracy"] > 0.85


NONE = Windows(np.zeros(0, np.int64), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))


def test_without_held_out_windows_the_curve_has_training_loss_only(tmp_path: Path) -> None:
    _, rows = tune(tmp_path, held_out=NONE, iterations=2)
    assert [set(row) for row in rows] == [{"iteration", "train_loss"}] * 2


def test_what_is_recognised_in_the_end_is_measured_on_training_windows_where_none_are_held_out(tmp_path: Path) -> None:
    network, found = tuned(tmp_path / "held out", held_out_windows=10**4)
    assert found.recognised == found.curve[-1]["val_fg_accuracy"]
    other, seen = tuned(tmp_path / "none", held_out=NONE, held_out_windows=10**4)
    for name, value in network.state_dict().items():  # measuring changes nothing
        assert torch.equal(value, other.state_dict()[name])
    images, training, _ = toy()
    whole = measure(other, training, batches_of(images, other.input), FinetuneSettings(), 1)
    assert seen.recognised == pytest.approx(whole["val_fg_accuracy"])
    untaught = tuned(tmp_path / "no rate", held_out=NONE, iterations=1, lr=1e-9, new_layer_bias=0.0)[1]
    assert untaught.recognised < seen.recognised


def test_the_weights_are_those_of_the_last_iteration_whatever_the_curve_says(tmp_path: Path) -> None:
    ends = []
    for name, every, aside in (("a", 1, None), ("b", 30, None), ("c", 30, NONE)):
        network, _ = tuned(tmp_path / name, held_out=aside, eval_every=every)
        ends.append(network.state_dict())
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]) and torch.equal(value, ends[2][name])


def test_the_new_layers_bias_starts_where_it_is_said(tmp_path: Path) -> None:
    network, _ = tune(tmp_path, iterations=1, lr=1e-9, new_layer_bias=1.0)
    assert (network.state_dict()["trunk.classifier.6.bias"] - 1).abs().max() < 1e-6


def test_new_layer_starts_gaussian_and_all_layers_move(tmp_path: Path) -> None:
    start = build("small", 7, generator=torch_generator(0, "test", "weights")).state_dict()
    network, _ = tune(tmp_path, iterations=1, lr=1e-9)
    weight = network.state_dict()["trunk.classifier.6.weight"]
    assert weight.shape == (3, 512)
    assert abs(weight.std().item() / 0.01 - 1) < 0.06  # 1,536 draws: 3 standard deviations is 5.4%
    assert abs(weight.mean().item()) < 0.001
    assert network.state_dict()["trunk.classifier.6.bias"].abs().max() < 1e-6
    moved, _ = tune(tmp_path / "moved", iterations=1, lr=0.01)
    for name, value in moved.state_dict().items():
        if not name.startswith("trunk.classifier.6"):
            assert not torch.equal(value, start[name]), name


def test_batch_normalisation_keeps_its_statistics() -> None:
    assert not training_run(FinetuneSettings(), seed=0, workers=1).train_batch_norm


def test_measure_is_mean_over_windows_not_over_chunks(tmp_path: Path) -> None:
    network, _ = tune(tmp_path, iterations=1)
    images, _, aside = toy()
    batches = batches_of(images, network.input)
    small = measure(network, aside, batches, FinetuneSettings(fg_per_batch=1, bg_per_batch=6), 2)
    large = measure(network, aside, batches, FinetuneSettings(fg_per_batch=100, bg_per_batch=100), 1)
    assert small == pytest.approx(large, rel=1e-5)
    batch: LabelledBatch = batches.batch(aside)
    with torch.no_grad():
        logits = network.eval()(torch.from_numpy(batch.inputs))
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(batch.labels)).item()
    assert large["val_loss"] == pytest.approx(expected, rel=1e-5)
    right = (logits.argmax(1).numpy() == batch.labels)[batch.labels > 0]
    assert large["val_fg_accuracy"] == pytest.approx(right.mean())


def test_limits_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match=r"bg_iou \(0.6\) must not be above"):
        FinetuneSettings(bg_iou=0.6)
