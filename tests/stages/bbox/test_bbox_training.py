"""Training box regressors: pairs, the whole recipe against scikit-learn, memory, and classes without objects."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from stage_context import Messages

from cache.errors import StageError
from stages.bbox.settings import BboxSettings
from stages.bbox.training import disabled_regressor, train_box_regressors, training_pairs
from stages.boxes.coding import decode, encode
from stages.boxes.geometry import iou


@dataclass
class Regions:
    image_id: int
    boxes: np.ndarray
    is_gt: np.ndarray
    gt_class: np.ndarray
    features: np.ndarray


def make_images(n_images: int = 8, per_object: int = 15, seed: int = 0) -> list[Regions]:
    """Two objects (classes 0 and 1) per image, jittered proposals, and features that tell the jitter."""
    rng = np.random.default_rng(seed)
    images = []
    for i in range(n_images):
        gt = np.array([[50, 50, 130, 110], [200, 60, 260, 180]], np.float32)
        jitter = rng.normal(0, 8, (2 * per_object, 4)).astype(np.float32)
        proposals = np.repeat(gt, per_object, axis=0) + jitter
        boxes = np.concatenate([gt, proposals])
        features = np.concatenate([np.zeros((2, 4)), jitter]) / 10
        features = np.concatenate([features, rng.normal(size=(len(boxes), 6))], axis=1).astype(np.float16)
        gt_class = np.array([0, 1] + [-1] * len(proposals))
        images.append(Regions(i, boxes, gt_class >= 0, gt_class, features))
    return images


SETTINGS = BboxSettings(ridge_lambda=10.0)


def test_pairs_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 20, 10], [0, 0, 6, 10], [0, 0, 7, 10], [0, 0, 18, 10]], np.float32)
    is_gt = np.array([True, True, False, False, False])
    pairs = training_pairs(boxes, is_gt, np.array([2, 5, -1, -1, -1]), 0.6)
    # IoU with the first object .6 is not above .6; .7 is; the last is nearest to the second object (.9)
    assert pairs.rows.tolist() == [0, 1, 3, 4]
    assert pairs.classes.tolist() == [2, 5, 2, 5]
    np.testing.assert_allclose(pairs.targets[:2], 0)
    np.testing.assert_allclose(pairs.targets[2], [1.5 / 7, 0, np.log(10 / 7), 0])
    np.testing.assert_allclose(pairs.targets[3], [1 / 18, 0, np.log(20 / 18), 0])


def test_no_object_no_pair() -> None:
    pairs = training_pairs(np.ones((3, 4)), np.zeros(3, bool), np.full(3, -1), 0.6)
    assert len(pairs.rows) == 0 and pairs.targets.shape == (0, 4)


@pytest.mark.parametrize("per_object", [15, 600, 2000], ids=["few rows", "rows", "rows that outgrow X'X"])
def test_the_whole_recipe_against_scikit_learn(per_object: int) -> None:
    images = make_images(3, per_object)
    scale = 1.7
    model = train_box_regressors(images, ["a", "b"], scale, SETTINGS, Messages())
    for j in range(2):
        xs, ys = [], []
        for image in images:
            gt = image.boxes[image.is_gt]
            overlaps = iou(image.boxes, gt)
            rows = [r for r in range(len(image.boxes)) if overlaps[r].max() > 0.6 and overlaps[r].argmax() == j]
            xs.append(image.features[rows].astype(np.float64) * scale)
            ys.append(encode(image.boxes[rows], np.repeat(gt[j : j + 1], len(rows), axis=0)))
        x, y = np.concatenate(xs), np.concatenate(ys)
        x1 = np.concatenate([x, np.ones((len(x), 1))], axis=1)
        values, vectors = np.linalg.eigh(np.cov(y.T, bias=True))
        whiten = vectors @ np.diag((values + 0.001) ** -0.5) @ vectors.T
        ridge = Ridge(alpha=SETTINGS.ridge_lambda, fit_intercept=False, solver="cholesky")
        ridge.fit(x1, (y - y.mean(axis=0)) @ whiten)
        expected = x1 @ ridge.coef_.T @ np.linalg.inv(whiten) + y.mean(axis=0)
        found = model.transforms((x / scale).astype(np.float16), np.full(len(x), j))
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
        figures = model.summary["ab"[j]]
        assert figures["pairs"] == len(x)
        np.testing.assert_allclose(figures["rms_error"], np.sqrt(((expected - y) ** 2).mean(axis=0)), rtol=1e-3)
        np.testing.assert_allclose(figures["rms_target"], np.sqrt((y**2).mean(axis=0)), rtol=1e-3)


def test_one_regressor_for_all_classes_is_scikit_learns_on_the_pooled_pairs() -> None:
    """A third class without an object gets it, too; what one class alone would give is something else."""
    images, scale, names = make_images(3, 40), 1.7, ["a", "b", "unseen"]
    log, settings = Messages(), SETTINGS.model_copy(update={"shared": True})
    model = train_box_regressors(images, names, scale, settings, log, workers=2)
    xs, ys = [], []
    for image in images:
        gt = image.boxes[image.is_gt]
        overlaps = iou(image.boxes, gt)
        rows = overlaps.max(axis=1) > 0.6
        xs.append(image.features[rows].astype(np.float64) * scale)
        ys.append(encode(image.boxes[rows], gt[overlaps[rows].argmax(axis=1)]))
    x, y = np.concatenate(xs), np.concatenate(ys)
    x1 = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    values, vectors = np.linalg.eigh(np.cov(y.T, bias=True))
    whiten = vectors @ np.diag((values + 0.001) ** -0.5) @ vectors.T
    ridge = Ridge(alpha=SETTINGS.ridge_lambda, fit_intercept=False, solver="cholesky")
    ridge.fit(x1, (y - y.mean(axis=0)) @ whiten)
    expected = x1 @ ridge.coef_.T @ np.linalg.inv(whiten) + y.mean(axis=0)
    stored = (x / scale).astype(np.float16)
    for j in range(3):
        np.testing.assert_allclose(model.transforms(stored, np.full(len(x), j)), expected, rtol=1e-3, atol=1e-4)
    assert model.trained.all() and model.classes == tuple(names) and model.weights.shape == (3, 11, 4)
    assert list(model.summary) == ["all classes"] and model.summary["all classes"]["pairs"] == len(x)
    np.testing.assert_allclose(
        model.summary["all classes"]["rms_error"], np.sqrt(((expected - y) ** 2).mean(axis=0)), rtol=1e-3
    )
    assert not log.warnings
    apart = train_box_regressors(images, names[:2], scale, SETTINGS, Messages())
    assert np.abs(apart.transforms(stored, np.zeros(len(x), int)) - expected).max() > 0.01


def test_a_shared_regressor_without_any_object_is_an_error_too() -> None:
    image = make_images(1)[0]
    image.is_gt[:] = False
    with pytest.raises(StageError, match=r"bbox\.enabled: false"):
        train_box_regressors([image], ["a", "b"], 1.0, SETTINGS.model_copy(update={"shared": True}), Messages())


def test_regression_brings_unseen_boxes_nearer() -> None:
    model = train_box_regressors(make_images(), ["a", "b"], 1.0, SETTINGS, Messages())
    image = make_images(1, seed=99)[0]
    labels = np.array([0, 1] + [0] * 15 + [1] * 15)
    gt = image.boxes[labels]
    moved = decode(image.boxes, model.transforms(image.features, labels))
    assert np.diag(iou(moved, gt))[2:].mean() > np.diag(iou(image.boxes, gt))[2:].mean() + 0.05


def test_memory_changes_passes_and_not_the_result() -> None:
    class Counted(list[Any]):
        passes = 0

        def __iter__(self) -> Iterator[Any]:
            Counted.passes += 1
            return super().__iter__()

    images = Counted(make_images(6, 200))
    small = train_box_regressors(
        images, ["a", "b"], 1.0, SETTINGS.model_copy(update={"memory_limit_mb": 0}), Messages()
    )
    few, Counted.passes = Counted.passes, 0
    large = train_box_regressors(images, ["a", "b"], 1.0, SETTINGS, Messages())
    assert few == Counted.passes + 1
    np.testing.assert_array_equal(small.weights, large.weights)


@pytest.mark.parametrize("per_object", [40, 2000], ids=["rows", "rows that outgrow X'X"])
def test_threads_change_no_bit(per_object: int) -> None:
    images = make_images(3, per_object)
    one, several = (
        train_box_regressors(images, ["a", "b"], 1.0, SETTINGS, log, workers=workers)
        for log, workers in ((Messages(), 1), (Messages(), 3))
    )
    np.testing.assert_array_equal(one.weights, several.weights)
    assert one.summary == several.summary and list(one.summary) == ["a", "b"]


def test_a_class_without_objects_leaves_boxes_alone() -> None:
    log = Messages()
    model = train_box_regressors(make_images(), ["a", "b", "unseen"], 1.0, SETTINGS, log)
    assert model.trained.tolist() == [True, True, False]
    assert len(log.warnings) == 1 and "'unseen'" in log.warnings[0]
    assert not model.transforms(np.ones((2, 10), np.float16), np.array([2, 2])).any()


def test_no_object_at_all_is_an_error() -> None:
    image = make_images(1)[0]
    image.is_gt[:] = False
    with pytest.raises(StageError, match=r"bbox\.enabled: false"):
        train_box_regressors([image], ["a", "b"], 1.0, SETTINGS, Messages())


def test_disabled() -> None:
    model = disabled_regressor("pool5", ["a", "b"])
    assert not model.enabled and not model.trained.any() and model.weights.shape == (2, 1, 4)
