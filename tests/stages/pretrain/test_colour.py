"""Colours moved along principal components, against numpy's covariance and a scatter of what is drawn."""

from typing import Any

import numpy as np
import pytest

from stages.networks.spec import InputSpec
from stages.pretrain.batches import TrainingBatches, colour_axes, shift_colours
from stages.pretrain.pictures import LabelledPictures
from stages.pretrain.settings import PretrainSettings
from stages.training.loop import TrainingRun

RGB = InputSpec(8)
BGR = InputSpec(8, "bgr", 1.0, (0.5, 0.4, 0.3), (0.2, 0.1, 0.4))


def pictures() -> LabelledPictures:
    """Make pictures of many sizes, channels correlated; the last two, which are held out, of another colour."""
    rng = np.random.default_rng(0)
    images = []
    for i in range(12):
        grey = rng.normal(0, 40, (8 + i, 9, 1)) + rng.normal(0, (4, 9, 15), (8 + i, 9, 3)) + (150, 100, 90)
        images.append(grey.clip(0, 255).astype(np.uint8))
    images[10][:], images[11][:] = 0, (255, 0, 0)
    shapes = np.array([image.shape[1::-1] for image in images])
    return LabelledPictures(images, np.arange(12) % 2, np.arange(12) < 10, shapes)


def test_axes_are_the_components_of_the_pixels_trained_on() -> None:
    axes = colour_axes(pictures(), np.random.default_rng(0))
    pixels = np.concatenate([pictures().images[i].reshape(-1, 3) for i in range(10)]) / 255
    np.testing.assert_allclose(axes.T @ axes, np.cov(pixels.T, bias=True), rtol=1e-9)  # lengths and directions
    np.testing.assert_allclose(axes @ axes.T, np.diag((axes**2).sum(1)), atol=1e-12)  # at right angles
    assert (axes.sum(1) > 0).all()
    np.testing.assert_array_equal(axes, colour_axes(pictures(), np.random.default_rng(1)))  # order changes no bit


def test_pixels_of_large_pictures_are_taken_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    ramp = np.repeat(np.linspace(0, 255, 256).astype(np.uint8), 3).reshape(16, 16, 3)
    data = LabelledPictures([ramp], np.zeros(1, int), np.ones(1, bool), np.array([[16, 16]]))
    whole = colour_axes(data, np.random.default_rng(0))
    monkeypatch.setattr("stages.pretrain.batches._MOST_PIXELS", 40)
    np.testing.assert_allclose(colour_axes(data, np.random.default_rng(0)), whole, atol=0.01)
    assert np.linalg.norm(whole[2]) == pytest.approx(3**0.5 / 12**0.5, rel=0.01)  # grey, evenly spread


@pytest.mark.parametrize("spec", [RGB, BGR])
def test_crops_move_as_wide_as_the_pixels_scatter(spec: InputSpec) -> None:
    axes = np.array([[0.02, 0, 0], [0, 0.03, -0.03], [0.2, 0.3, 0.3]])
    crops = np.random.default_rng(1).normal(size=(20_000, 3, 2, 2)).astype(np.float32)
    by = shift_colours(crops, axes, 0.1, spec, np.random.default_rng(2)) - crops
    np.testing.assert_allclose(by, np.broadcast_to(by[:, :, :1, :1], by.shape), atol=1e-5)  # all pixels alike
    order = [2, 1, 0] if spec.color_order == "bgr" else [0, 1, 2]
    in_rgb = by[:, order, 0, 0] * np.array(spec.std)[order] / spec.value_range
    np.testing.assert_allclose(np.cov(in_rgb.T), 0.01 * axes.T @ axes, atol=3e-5)
    assert np.abs(in_rgb.mean(0)).max() < 1e-3


def batch(axes: Any, **settings: Any) -> np.ndarray:
    wanted = PretrainSettings(batch=6, recolour=False, **settings)
    run = TrainingRun("pretrain", 1, 1, 1, seed=3)
    return TrainingBatches(pictures(), BGR, wanted, run, (8,), axes)(5).inputs


def test_a_batch_is_the_same_crops_each_moved_by_itself() -> None:
    plain = batch(None)
    axes = colour_axes(pictures(), np.random.default_rng(0))
    by = batch(axes, colour_std=0.1) - plain
    np.testing.assert_allclose(by, np.broadcast_to(by[:, :, :1, :1], by.shape), atol=1e-5)
    assert len(np.unique(by[:, 0, 0, 0].round(5))) == 6
    np.testing.assert_array_equal(batch(axes, colour_std=0.1), batch(axes, colour_std=0.1))


def test_crops_of_a_batch_are_mirrored_where_asked_and_about_half_of_them() -> None:
    plain, mirrored = batch(None), batch(None, mirror=True)
    flipped = [not np.array_equal(was, now) for was, now in zip(plain, mirrored, strict=True)]
    assert 0 < sum(flipped) < len(flipped)
    for was, now, flip in zip(plain, mirrored, flipped, strict=True):
        np.testing.assert_array_equal(now, was[:, :, ::-1] if flip else was)
