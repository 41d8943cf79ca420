"""Windows that hold an object against a slow version, what is drawn of them, their targets, and the loss."""

from typing import Any

import numpy as np
import pytest
import torch
from dense_images import CLASSES, images, pooled_rows, record, records, small
from hypothesis import given
from hypothesis import strategies as st
from plain_arrays import as_boxes
from torch import nn

from cache.errors import StageError
from manifests import ImageRecord
from stages.boxes.geometry import iou
from stages.overfeat.pooled_rows import fc6_length
from stages.overfeat.regress_training import EdgeBatch, EdgeTargets, edge_batches, edge_terms, objects_held
from stages.overfeat.regressor import EdgeRegressor, encode_edges, new_edge_layers
from stages.overfeat.settings import RegressSettings
from stages.training.images import ImageSide
from stages.training.loop import TrainingRun

RUN = TrainingRun("regress", 4, 2, 1000, 5, train_batch_norm=False)
BOX = st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(0, 40)] * 2).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


def targets_of(*of: ImageRecord, mirror: bool = True, **changes: Any) -> EdgeTargets:
    settings = RegressSettings(**changes)
    return EdgeTargets(images(of or records(), difficult=settings.difficult, mirror=mirror), settings)


def by_hand(windows: np.ndarray, objects: np.ndarray, part: float) -> list[tuple[int, int]]:
    """One window and object after another."""
    out = []
    for row, window in enumerate(windows.tolist()):
        best, which = -1.0, -1
        for k, box in enumerate(objects.tolist()):
            wide, high = (max(min(window[2 + d], box[2 + d]) - max(window[d], box[d]), 0) for d in (0, 1))
            own = (box[2] - box[0]) * (box[3] - box[1])
            overlap = float(iou(as_boxes([window]), as_boxes([box]))[0, 0])
            if own > 0 and wide * high >= part * own and overlap > best:
                best, which = overlap, k
        if which >= 0:
            out.append((row, which))
    return out


@given(st.lists(BOX, min_size=1, max_size=8), st.lists(BOX, min_size=0, max_size=4), st.sampled_from([0.25, 0.5, 1.0]))
def test_windows_that_hold_an_object_are_those_of_a_slow_version(
    windows: list[tuple[int, ...]], objects: list[tuple[int, ...]], part: float
) -> None:
    found = objects_held(as_boxes(windows), as_boxes(objects), part)
    assert [(int(row), int(which)) for row, which in zip(*found, strict=True)] == by_hand(
        as_boxes(windows), as_boxes(objects), part
    )


def test_a_small_object_inside_counts_for_its_largest_iou() -> None:
    windows = as_boxes([[0, 0, 100, 100]])
    objects = as_boxes([[10, 10, 20, 20], [5, 5, 35, 35], [-60, 0, 90, 200]])  # the last has 30% of its area inside
    assert [one.tolist() for one in objects_held(windows, objects, 0.5)] == [[0], [1]]


def test_difficult_objects_and_crowds_are_no_targets() -> None:
    boxes = [[8, 6, 58, 60], [60, 20, 95, 60], [0, 0, 100, 80]]
    of = record(0, boxes, [0, 1, 1], difficult=[1, 0, 0], crowd=[0, 0, 1])
    assert targets_of(of).counts(2).tolist()[0] == 0 < targets_of(of).counts(2)[1]
    assert min(targets_of(of, difficult=True).counts(2)) > 0
    # what is drawn is the object itself, whatever was left out before it
    _, objects, labels = targets_of(of).draw(ImageSide(0, mirrored=True), 5, np.random.default_rng(0))
    np.testing.assert_array_equal(objects, as_boxes([[5, 20, 40, 60]] * 5))
    assert labels.tolist() == [1] * 5


def every_pair(made: EdgeTargets) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """All windows that hold an object, the objects, and their classes, of all images and mirror images."""
    windows, objects, labels = [], [], []
    for side in made.images.sides:
        found, boxes = made.images.objects(side), made.images.grid(side).boxes
        for row, which in by_hand(boxes, found.boxes, 0.5):
            windows.append(boxes[row])
            objects.append(found.boxes[which])
            labels.append(int(found.labels[which]))
    return np.array(windows), np.array(objects), labels


@pytest.mark.parametrize("mirror", [False, True])
def test_edges_are_standardised_by_those_of_all_windows(mirror: bool) -> None:
    made = targets_of(mirror=mirror)
    windows, objects, labels = every_pair(made)
    assert made.counts(2).tolist() == np.bincount(labels).tolist()
    assert made.sides == [ImageSide(i, m) for m in (False, True)[: 1 + mirror] for i in (0, 1)]  # the third shows none
    edges = encode_edges(windows, objects)
    mean, std = made.norm()
    np.testing.assert_allclose(mean, edges.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(std, edges.std(axis=0), rtol=1e-9)


def test_an_edge_that_does_not_vary_keeps_its_size() -> None:
    """At 72 px windows are of 71 px of the image and 9 apart, so that one alone holds all of the object."""
    made = targets_of(record(2, [[1, 1, 70, 70]], [0]), mirror=False, object_part=1.0)
    mean, std = made.norm()
    assert made.counts(2).tolist() == [1, 0]
    assert std.tolist() == [1, 1, 1, 1]
    np.testing.assert_allclose(mean, np.array([1, 1, 70, 70]) / (64 * 80 / 72), rtol=1e-5)


def test_windows_of_an_image_come_all_once_before_any_comes_again() -> None:
    made, side = targets_of(), ImageSide(0, mirrored=True)
    held = by_hand(made.images.grid(side).boxes, made.images.objects(side).boxes, 0.5)
    count = 2 * len(held) + 3
    rows, objects, labels = made.draw(side, count, np.random.default_rng(0))
    times = np.unique(rows, return_counts=True)[1]
    assert (len(rows), len(times), times.min(), times.max()) == (count, len(held), 2, 3)
    few = made.draw(side, 5, np.random.default_rng(0))
    assert len(np.unique(few[0])) == 5
    which = dict(held)
    annotated = made.images.objects(side)
    for row, box, label in zip(rows, objects, labels, strict=True):
        np.testing.assert_array_equal(box, annotated.boxes[which[row]])
        assert label == annotated.labels[which[row]]


def regressor_of(made: EdgeTargets, network: Any) -> EdgeRegressor:
    layers = new_edge_layers(fc6_length(network), (8, 6), 4, torch.Generator().manual_seed(0))
    return EdgeRegressor(layers, *made.norm(), CLASSES, False, "")


@pytest.mark.parametrize(("count", "shares"), [(12, [4, 4, 4]), (11, [4, 4, 3]), (2, [1, 1, 0])])
def test_a_batch_is_shared_out_to_its_images(count: int, shares: list[int]) -> None:
    made, network = targets_of(), small()
    regressor = regressor_of(made, network)
    sides = ImageSide(0, False), ImageSide(1, True), ImageSide(0, True)
    batch = edge_batches(made, pooled_rows(network, records()), regressor, lambda _: sides, count, RUN)
    found, again = batch(3), batch(3)
    assert (found.inputs.shape, found.targets.shape) == ((count, 1024), (count, 4))
    for name in ("inputs", "targets", "labels"):
        np.testing.assert_array_equal(getattr(found, name), getattr(again, name))
    assert not np.array_equal(found.inputs, batch(4).inputs)
    rows = pooled_rows(network, records())
    start = 0
    for side, share in zip(sides, shares, strict=True):
        own, targets = found.inputs[start : start + share], found.targets[start : start + share]
        grid = made.images.grid(side)
        every = rows(side, grid, np.arange(len(grid)))
        annotated = made.images.objects(side)
        held = dict(by_hand(grid.boxes, annotated.boxes, 0.5))
        for values, target in zip(own, targets, strict=True):
            (places,) = np.nonzero((every == values).all(axis=1))
            wanted = [
                regressor.standardised(grid.boxes[[row]], annotated.boxes[[held[row]]])[0]
                for row in places.tolist()
                if row in held
            ]
            assert any(np.array_equal(target, one) for one in wanted)
        start += share


def test_the_loss_by_hand() -> None:
    """Squares of 1, 2, 0, 1 and of 0, 0, 3, 1 for the objects' classes: 16 / 8; the others' answers do not count."""
    layer = nn.Linear(1, 8, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(8.0)[:, None])
    targets = np.array([[3, 3, 6, 8], [0, 1, -1, 2]], np.float32)
    batch = EdgeBatch(np.ones((2, 1), np.float32), targets, np.array([1, 0]))
    (found,) = edge_terms(True, "float32")(nn.Sequential(layer), batch).values()
    assert found.item() == pytest.approx(((1 + 4 + 0 + 1) + (0 + 0 + 9 + 1)) / 8)
    found.backward()
    assert layer.weight.grad is not None and layer.weight.grad.any(dim=1).tolist() == [
        *(False, False, True, True),  # class 0: edges 3 and 4 are wrong
        *(True, True, False, True),
    ]
    shared = nn.Linear(1, 4, bias=False)
    nn.init.constant_(shared.weight, 2)
    (of_all,) = edge_terms(False, "float32")(nn.Sequential(shared), batch).values()
    assert of_all.item() == pytest.approx(((2 - targets) ** 2).mean())


def test_no_window_that_holds_an_object_is_told_with_a_scale_that_has_some() -> None:
    wide = record(1, [[0, 0, 70, 90]], [0])  # 70 x 90 px; a window of 72 px of the shorter side sees 62 x 61
    with pytest.raises(
        StageError, match=r"^regress: no window of the train split holds 0.9 of an object's area: objects are"
    ):
        targets_of(wide, object_part=0.9)
    with pytest.raises(StageError, match="regress: no image of the train split shows an object that is trained on"):
        targets_of(record(2))
