"""Near duplicates among the negatives: against a loop over all pairs, class by class, and in the mining."""

import math
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_context import Messages

from cache.errors import StageError
from stages.boxes.geometry import iou
from stages.features.spp.windows import cell_windows
from stages.networks.network import build
from stages.networks.receptive_field import map_geometry
from stages.svm.cells import spp_responses
from stages.svm.hard_negatives import distinct_negatives, first_of_equal, negatives
from stages.svm.mining import train_svms
from stages.svm.settings import SvmSettings


def by_loop(boxes: np.ndarray, is_gt: np.ndarray, negative: np.ndarray, most_iou: float) -> np.ndarray:
    """Class by class, row by row: kept unless it overlaps one that was kept before it."""
    kept = np.zeros_like(negative)
    overlaps = iou(boxes, boxes)
    for j in range(negative.shape[1]):
        for i in range(len(boxes)):
            if negative[i, j]:
                earlier = [k for k in range(i) if kept[k, j]]
                kept[i, j] = is_gt[i] or not any(overlaps[i, k] > most_iou for k in earlier)
    return kept


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([1, 3, 63, 64, 65, 130]), st.floats(0.05, 0.95))
def test_the_same_as_a_loop_over_all_pairs(seed: int, classes: int, most_iou: float) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 40))
    corner = rng.integers(0, 12, (n, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 12, (n, 2))], 1).astype(np.float32)
    is_gt = np.arange(n) < 4
    negative = rng.random((n, classes)) < 0.8
    expected = by_loop(boxes, is_gt, negative, most_iou)
    found = distinct_negatives(boxes, is_gt, negative, most_iou)
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, expected)


# IoU of neighbours (shifted by 1 of 10 px) 9/11 = .82, of next neighbours 8/12 = .67.
ROW = np.array([[x, 0, x + 10, 10] for x in range(5)], np.float32)


def test_only_what_is_kept_drops_others() -> None:
    kept = distinct_negatives(ROW, np.zeros(5, bool), np.ones((5, 1), bool), 0.7)[:, 0]
    assert kept.tolist() == [True, False, True, False, True]


def test_classes_do_not_see_each_other_and_ground_truth_stays() -> None:
    negative = np.ones((5, 2), bool)
    negative[0, 1] = False  # too near an object of the second class: it drops none of that class's
    kept = distinct_negatives(ROW, np.zeros(5, bool), negative, 0.7)
    assert kept.T.tolist() == [[True, False, True, False, True], [False, True, False, True, False]]
    objects = np.arange(5) < 2
    assert distinct_negatives(ROW, objects, negative, 0.7)[:, 0].tolist() == [True, True, False, True, False]


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 40))
def test_an_overlap_of_exactly_so_many_tenths_is_not_above(tenths: int, width: int, height: int) -> None:
    """One box in another of ten times its width: k tenths of the area, however large; multiplied out many would go."""
    boxes = np.array([[0, 0, 10 * width, height], [0, 0, tenths * width, height]], np.float32)
    assert distinct_negatives(boxes, np.zeros(2, bool), np.ones((2, 1), bool), tenths / 10).all()
    if tenths > 1:
        assert not distinct_negatives(boxes, np.zeros(2, bool), np.ones((2, 1), bool), tenths / 10 - 1e-9)[1, 0]


def test_an_overlap_of_exactly_the_limit_stays() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5]], np.float32)
    assert distinct_negatives(boxes, np.zeros(2, bool), np.ones((2, 1), bool), 0.5).all()
    assert not distinct_negatives(boxes, np.zeros(2, bool), np.ones((2, 1), bool), 0.49)[1, 0]


def authors_responses(box: list[float], scales: Sequence[int], target: int, min_side: int) -> tuple[int, ...]:
    """One region in 1-based pixels, as ZF-5 sees it: the best scale's number and the cells (FACTS.md sections 10, 16).

    Neither are crossed cells brought together nor cells beyond the map brought into it.
    """
    x1, y1, x2, y2 = box[0] + 1, box[1] + 1, box[2], box[3]
    wanted = round_half_up(target * min_side / math.sqrt((x2 - x1 + 1) * (y2 - y1 + 1)))
    best = min(range(len(scales)), key=lambda k: (abs(scales[k] - wanted), k))
    scaled = [(v - 1) * (scales[best] - 1) / (min_side - 1) + 1 for v in (x1, y1, x2, y2)]
    low = [math.floor((v - 21 + 6.5) / 16 + 0.5) + 1 for v in scaled[:2]]
    high = [math.ceil((v - 21 - 6.5) / 16 - 0.5) + 1 for v in scaled[2:]]
    return best, *low, *high


def round_half_up(value: float) -> int:
    return math.floor(value + 0.5)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 4), st.sampled_from([(480,), (480, 576, 688, 864, 1200)]))
def test_of_equal_cells_the_first_of_all_rows_as_in_the_authors_loop(
    seed: int, classes: int, scales: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(seed)
    n, width, height = int(rng.integers(0, 40)), 300, 220
    corner = rng.integers(0, 180, (n, 2)) // rng.choice([1, 20])
    boxes = np.concatenate([corner, corner + rng.integers(1, 40, (n, 2))], 1).astype(np.float32)
    image = SimpleNamespace(
        image_id=7,
        boxes=boxes,
        is_gt=np.arange(n) < 4,
        overlaps=rng.choice([0, 0.1, 0.2, 0.5, 1], (n, classes)).astype(np.float32),
    )
    summary = {"method": "spp", "network": "zf5", "scales_px": list(scales), "target_side_px": 224}
    responses = spp_responses(summary, {7: min(width, height)})
    seen, unique = set(), []
    for box in boxes.tolist():  # ground truth and what is near an object count as any other row
        response = authors_responses(box, scales, 224, min(width, height))
        unique.append(response not in seen)
        seen.add(response)
    for limit in (0.3, 0.2):
        found = negatives(image, SvmSettings(negative_iou=limit, drop_equal=True), responses)
        expected = [[unique[i] and image.overlaps[i, j] < np.float32(limit) for j in range(classes)] for i in range(n)]
        np.testing.assert_array_equal(found, np.array(expected, bool).reshape(n, classes))


def test_regions_of_one_window_may_have_unlike_responses() -> None:
    """Both reach past the map's right edge, by one cell and by several; and both lie between two cells."""
    summary = {"method": "spp", "network": "zf5", "scales_px": [480], "target_side_px": None}
    boxes = np.array([[400, 0, 478, 100], [400, 0, 640, 100], [400, 0, 640, 100]], np.float32)
    image = SimpleNamespace(image_id=1, boxes=boxes)
    rows = spp_responses(summary, {1: 480})(image)
    assert first_of_equal(rows).tolist() == [True, True, False]
    windows = cell_windows(boxes, 480, 480, map_geometry(build("zf5", 1, device="meta")), (28, 28))
    assert (windows == windows[0]).all()


def test_features_of_cropped_regions_have_no_cells() -> None:
    with pytest.raises(StageError, match=r"drop_equal: regions have cells with features\.method: spp alone"):
        spp_responses({"network": "caffenet"}, {})


def test_no_overlap_at_all_is_asked_for_by_0() -> None:
    overlaps = np.array([[0, 1e-6], [0.3, 0], [0, 0]], np.float32)
    image = SimpleNamespace(overlaps=overlaps)
    assert negatives(image, SvmSettings(negative_iou=0)).tolist() == [[True, False], [False, True], [True, True]]
    assert negatives(image, SvmSettings(negative_iou=0.3)).tolist() == [[True, True], [False, True], [True, True]]


class Image:
    """Two objects of a class each, then pairs of equal boxes with unlike features: the second of a pair is dropped."""

    def __init__(self, image_id: int) -> None:
        rng = np.random.default_rng(image_id)
        self.image_id = image_id
        corner = np.repeat(rng.uniform(0, 200, (15, 2)), 2, axis=0)
        pairs = np.concatenate([corner, corner + 20], 1)
        self.boxes = np.concatenate([[[300, 0, 340, 40], [300, 60, 340, 100]], pairs]).astype(np.float32)
        self.is_gt = np.arange(32) < 2
        self.gt_class = np.where(self.is_gt, np.arange(32), -1)
        self.overlaps = np.eye(32, 2, dtype=np.float32)
        self.features = rng.random((32, 6)).astype(np.float16)


@pytest.mark.parametrize("solver", ["dual", "liblinear"])
def test_mining_sees_the_distinct_negatives_only(solver: str) -> None:
    images = [Image(i) for i in range(3)]
    options = SvmSettings(solver=solver, margin=-1e6, evict_below=-1e6)
    all_of_them, records = train_svms(images, ("a", "b"), 1.0, options, 0, Messages())
    assert {record.negatives for record in records if record.images_seen == 3} == {3 * 31}
    limited = options.model_copy(update={"duplicate_iou": 0.7})
    distinct, records = train_svms(images, ("a", "b"), 1.0, limited, 0, Messages())
    for image in images:  # the same by hand: what is dropped is no negative of either class
        expected = by_loop(image.boxes, image.is_gt, image.overlaps < 0.3, 0.7)
        image.overlaps = np.where(expected, image.overlaps, 1).astype(np.float32)
    by_hand, expected_records = train_svms(images, ("a", "b"), 1.0, options, 0, Messages())
    np.testing.assert_array_equal(distinct.weights, by_hand.weights)
    assert [r.negatives for r in records] == [r.negatives for r in expected_records]
    assert max(r.negatives for r in records) < 3 * 20
    assert not np.array_equal(distinct.weights, all_of_them.weights)


def test_mining_drops_equal_cells_where_asked() -> None:
    images = [Image(i) for i in range(3)]
    options = SvmSettings(margin=-1e6, evict_below=-1e6)
    _, every = train_svms(images, ("a", "b"), 1.0, options, 0, Messages())
    cells = lambda image: np.floor(image.boxes).astype(np.int64)  # noqa: E731  the boxes of a pair are equal
    _, distinct = train_svms(images, ("a", "b"), 1.0, options, 0, Messages(), responses=cells)
    counts = [{r.negatives for r in records if r.images_seen == 3} for records in (every, distinct)]
    assert counts == [{3 * 31}, {3 * 16}]


def test_the_limit_is_checked() -> None:
    for wrong in (0, 1, -0.1):
        with pytest.raises(ValueError, match="duplicate_iou"):
            SvmSettings(duplicate_iou=wrong)


def test_a_region_cannot_be_positive_and_negative() -> None:
    with pytest.raises(ValueError, match=r"svm.positive_iou \(0.2\) must not be below svm.negative_iou \(0.3\)"):
        SvmSettings(positive_iou=0.2)
    SvmSettings(positive_iou=0.3)
