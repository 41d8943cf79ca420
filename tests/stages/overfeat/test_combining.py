"""From scored windows to detections: which enter, what they become, and suppression beside torchvision's."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.ops import nms

from cache.errors import StageError
from stages.overfeat.combining import combined, entering, suppressed_windows, top_classes
from stages.overfeat.merging import greedy_merge
from stages.overfeat.settings import MergeSettings
from stages.overfeat.windows import EVERY_CLASS, ScoredWindows

WIDTH, HEIGHT = 120, 90
SCALES = (64, 96, 128)
N_CLASSES = 3


def made_windows(seed: int = 0, n: int = 240, *, per_class: int | None = None) -> ScoredWindows:
    """Windows at random, and boxes about three objects, some of them beyond the image's edges; scores with ties.

    ``per_class``: how many classes of each scale a regressor by class was asked of.
    """
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (n, 2))
    windows = np.concatenate([corner, corner + 40], axis=1).astype(np.float32)
    scale = np.sort(rng.choice(SCALES, n))
    scores = (rng.integers(0, 40, (n, N_CLASSES)) / 100).astype(np.float32)
    objects = np.array([[-8, 5, 30, 50], [20, 20, 70, 80], [60, -5, 125, 60]])
    near = objects[rng.integers(0, 3, n)][:, None]
    classes = np.full((n, 1), EVERY_CLASS)
    if per_class is not None:
        classes = np.stack([top_classes(scores[scale == one], per_class) for one in scale])
    edges = (near + rng.normal(0, 4, (n, classes.shape[1], 4))).astype(np.float32)
    return ScoredWindows(windows, scale, np.ones(n, np.bool_), scores, edges, classes)


def entering_by_hand(windows: ScoredWindows, settings: MergeSettings) -> dict[int, list[int]]:
    """List the rows of each class that enter, best first."""
    found = {}
    for label in range(N_CLASSES):
        rows = []
        for scale in SCALES:
            those = np.flatnonzero(windows.scale == scale)
            largest = windows.scores[those].max(axis=0).tolist()
            ahead = [other for other, most in enumerate(largest) if (-most, other) < (-largest[label], label)]
            if settings.k is None or len(ahead) < settings.k:
                rows += [int(row) for row in those if windows.scores[row, label] > settings.score_floor]
        found[label] = sorted(rows, key=lambda row: -windows.scores[row, label])[: settings.max_windows]
    return found


@pytest.mark.parametrize("k", [None, 1, 2, 7])
@pytest.mark.parametrize("limits", [(300, 0.02), (25, 0.02), (300, 0.3)])
def test_windows_enter_by_score_by_number_and_by_the_top_classes_of_their_scale(
    k: int | None, limits: tuple[int, float]
) -> None:
    settings = MergeSettings(k=k, max_windows=limits[0], score_floor=limits[1])
    for per_class in (None, N_CLASSES, min(k or N_CLASSES, N_CLASSES)):
        windows = made_windows(per_class=per_class)
        found, wanted = entering(windows, settings, WIDTH, HEIGHT), entering_by_hand(windows, settings)
        pairs = [(label, row) for label, rows in wanted.items() for row in rows]
        assert list(zip(found.labels.tolist(), found.rows.tolist(), strict=True)) == pairs
        for (label, row), score, box, whole in zip(pairs, found.scores, found.boxes, found.windows, strict=True):
            column = 0 if per_class is None else windows.edge_classes[row].tolist().index(label)
            assert score == windows.scores[row, label]
            np.testing.assert_array_equal(box, windows.edges[row, column])
            np.testing.assert_array_equal(whole, windows.windows[row].clip(0, [WIDTH, HEIGHT] * 2))
    assert 0 < len(found.labels) <= N_CLASSES * limits[0]


def test_ties_for_the_top_go_to_the_first_class() -> None:
    scores = np.array([[0.2, 0.5, 0.1, 0.5], [0.3, 0.1, 0.3, 0.2]], np.float32)
    assert top_classes(scores, 3).tolist() == [1, 3, 0]
    assert top_classes(scores, None).tolist() == top_classes(scores, 4)[[2, 0, 3, 1]].tolist() == [0, 1, 2, 3]


def test_boxes_of_classes_that_were_not_asked_of_are_missed() -> None:
    with pytest.raises(StageError, match=r"^merge.k: asks for boxes of classes that slide did not regress; run"):
        entering(made_windows(per_class=1), MergeSettings(k=2), WIDTH, HEIGHT)


def suppressed_by_torchvision(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], labels: NDArray[np.int64], iou: float
) -> list[int]:
    """Rows that stay, of rows that come by class and then best first."""
    kept = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        kept += own[nms(torch.from_numpy(boxes[own]).double(), torch.from_numpy(scores[own]).double(), iou)].tolist()
    return sorted(kept)


@pytest.mark.parametrize("t", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("then_nms", [None, 0.3])
def test_each_class_merges_by_itself_and_the_result_is_clipped(t: float, then_nms: float | None) -> None:
    found = entering(made_windows(), MergeSettings(max_windows=60), WIDTH, HEIGHT)
    result = combined(found, MergeSettings(t=t, then_nms=then_nms, max_windows=60))
    rows: list[tuple[Any, ...]] = []
    for label in range(N_CLASSES):
        own = np.flatnonzero(found.labels == label)
        merged = greedy_merge(found.boxes[own], found.scores[own], t)
        boxes = merged.boxes.astype(np.float32).clip(0, [WIDTH, HEIGHT] * 2)
        for k in np.argsort(-merged.scores.astype(np.float32), kind="stable"):
            members = own[merged.merged_into == k]
            rows.append((label, boxes[k], np.float32(merged.scores[k]), found.windows[members[0]], members))
    kept = rows
    if then_nms is not None:
        labels, boxes, scores = (np.array([row[k] for row in rows]) for k in range(3))
        kept = [rows[i] for i in suppressed_by_torchvision(boxes, scores, labels, then_nms)]
        assert t > 0.2 or len(kept) < len(rows)
    assert result.candidates.labels.tolist() == [row[0] for row in rows]
    np.testing.assert_array_equal(result.candidates.bbox, [row[1] for row in rows])
    np.testing.assert_array_equal(result.candidates.scores, [row[2] for row in rows])
    np.testing.assert_array_equal(result.candidates.no_bbox, [row[3] for row in rows])
    assert result.bbox.labels.tolist() == [row[0] for row in kept]
    np.testing.assert_array_equal(result.bbox.boxes, [row[1] for row in kept])
    np.testing.assert_array_equal(result.bbox.scores, [row[2] for row in kept])
    assert result.counts.tolist() == [len(row[4]) for row in kept]
    means = [found.scores[row[4]].astype(np.float64).mean() for row in kept]
    np.testing.assert_allclose(result.means, means, rtol=1e-6)
    members = [(int(row), box) for box, one in enumerate(kept) for row in found.rows[one[4]]]
    assert list(zip(result.member_windows.tolist(), result.member_boxes.tolist(), strict=True)) == members


@pytest.mark.parametrize("t", [0.2, 0.6, 2.0])
def test_every_window_that_enters_is_counted_once(t: float) -> None:
    for seed in range(5):
        found = entering(made_windows(seed), MergeSettings(), WIDTH, HEIGHT)
        result = combined(found, MergeSettings(t=t))
        for label in range(N_CLASSES):
            of_class, entered = result.bbox.labels == label, found.scores[found.labels == label]
            assert result.counts[of_class].sum() == len(entered)
            total = float(result.bbox.scores[of_class].sum(dtype=np.float64))
            assert total == pytest.approx(float(entered.sum(dtype=np.float64)), rel=1e-5)
        pairs = zip(result.member_windows.tolist(), result.bbox.labels[result.member_boxes].tolist(), strict=True)
        assert sorted(pairs) == sorted(zip(found.rows.tolist(), found.labels.tolist(), strict=True))


@pytest.mark.parametrize("nms_iou", [0.3, 0.7])
def test_method_nms_is_torchvisions_of_the_clipped_boxes(nms_iou: float) -> None:
    settings = MergeSettings(method="nms", nms_iou=nms_iou, then_nms=0.01)
    found = entering(made_windows(), settings, WIDTH, HEIGHT)
    result = combined(found, settings)
    boxes = found.boxes.clip(0, [WIDTH, HEIGHT] * 2)
    kept = suppressed_by_torchvision(boxes, found.scores, found.labels, nms_iou)
    assert 0 < len(kept) < len(boxes)
    np.testing.assert_array_equal(result.bbox.boxes, boxes[kept])
    np.testing.assert_array_equal(result.bbox.scores, found.scores[kept])
    np.testing.assert_array_equal(result.bbox.labels, found.labels[kept])
    np.testing.assert_array_equal(result.candidates.bbox, boxes)
    np.testing.assert_array_equal(result.candidates.no_bbox, found.windows)
    np.testing.assert_array_equal(result.means, found.scores[kept])
    np.testing.assert_array_equal(result.member_windows, found.rows[kept])
    assert result.counts.tolist() == [1] * len(kept) and result.member_boxes.tolist() == list(range(len(kept)))


def test_windows_themselves_are_suppressed_as_torchvision_does() -> None:
    found = entering(made_windows(), MergeSettings(), WIDTH, HEIGHT)
    kept = suppressed_by_torchvision(found.windows, found.scores, found.labels, 0.3)
    result = suppressed_windows(found, 0.3)
    assert 0 < len(kept) < len(found.rows)
    np.testing.assert_array_equal(result.boxes, found.windows[kept])
    np.testing.assert_array_equal(result.scores, found.scores[kept])
    np.testing.assert_array_equal(result.labels, found.labels[kept])


def few_windows(edges: Sequence[Sequence[float]], scores: list[float]) -> ScoredWindows:
    """Windows of one class, of the whole image."""
    n = len(edges)
    whole = np.tile(np.array([0, 0, WIDTH, HEIGHT], np.float32), (n, 1))
    placed = np.array(edges, np.float32).reshape(n, 1, 4)
    classes = np.full((n, 1), EVERY_CLASS)
    return ScoredWindows(
        whole, np.full(n, 64), np.ones(n, np.bool_), np.array(scores, np.float32).reshape(n, 1), placed, classes
    )


def test_edges_outside_the_image_merge_before_they_are_clipped() -> None:
    windows = few_windows([[-6, 10, 30, 40], [2, 10, 30, 40]], [0.5, 0.25])
    result = combined(entering(windows, MergeSettings(), WIDTH, HEIGHT), MergeSettings(t=0.5))
    assert result.bbox.boxes.tolist() == [[0, 10, 30, 40]]  # the mean is at -2; of clipped ones it would be at 1
    assert result.bbox.scores.tolist() == [0.75] and result.means.tolist() == [0.375]
    outside = few_windows([[-90, 10, -50, 40], [-40, 10, -2, 40]], [0.5, 0.25])
    apart = combined(entering(outside, MergeSettings(), WIDTH, HEIGHT), MergeSettings(t=0.9))
    assert apart.bbox.boxes.tolist() == [[0, 10, 0, 40]] * 2


@pytest.mark.parametrize("method", ["merge", "nms"])
def test_boxes_without_area_or_turned_over_do_no_harm(method: str) -> None:
    edges = [[5, 5, 5, 5], [5, 5, 5, 5], [5, 5, 5, 60], [40, 40, 10, 10], [40, 40, 10, 10], [0, 0, 60, 60]]
    settings = MergeSettings.model_validate({"method": method, "t": 0.9, "then_nms": 0.3})
    result = combined(entering(few_windows(edges, [0.5] * 6), settings, WIDTH, HEIGHT), settings)
    assert np.isfinite(result.bbox.boxes).all() and len(result.bbox) > 2
    assert len(result.member_windows) == result.counts.sum()


@pytest.mark.parametrize("method", ["merge", "nms"])
def test_where_no_window_enters_there_are_no_detections(method: str) -> None:
    settings = MergeSettings.model_validate({"method": method, "t": 0.5, "then_nms": 0.3})
    found = entering(few_windows([[0, 0, 9, 9]], [0.01]), settings, WIDTH, HEIGHT)
    result = combined(found, settings)
    assert len(result.bbox) == len(result.candidates.scores) == len(suppressed_windows(found, 0.3)) == 0
    for boxes in (result.bbox.boxes, result.candidates.bbox, result.candidates.no_bbox):
        assert boxes.shape == (0, 4) and boxes.dtype == np.float32
    members = {name: (str(values.dtype), values.shape) for name, values in result.members().items()}
    integers = dict.fromkeys(("merged.count", "members.windows", "members.box"), ("int64", (0,)))
    assert members == {**integers, "merged.mean": ("float32", (0,))}
