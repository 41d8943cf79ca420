"""Which windows are foreground and background, and how mini-batches are drawn."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.finetune.settings import FinetuneSettings
from stages.finetune.windows import (
    Limits,
    Windows,
    collect,
    draw_batch,
    draw_held_out,
    hold_out,
    image_windows,
    label_boxes,
)

GT = np.array([[0, 0, 10, 10], [20, 0, 30, 10]], np.float32)
GT_LABELS = np.array([2, 0])
NO_CROWD = np.zeros(2, bool)


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def test_labels_of_hand_computed_overlaps() -> None:
    asked = boxes(
        (0, 0, 10, 10),  # IoU 1 with class 2
        (0, 0, 10, 5),  # 50 / 100: exactly 0.5 is foreground
        (0, 0, 10, 4.9),  # 0.49
        (20, 0, 30, 20),  # 100 / 200: exactly 0.5 with class 0
        (50, 50, 60, 60),  # no overlap at all is background too
        (0, 0, 30, 10),  # 1/3 with both
    )
    labels = label_boxes(asked, GT, GT_LABELS, n_classes=4)
    np.testing.assert_array_equal(labels, [3, 3, 0, 1, 0, 0])


def test_windows_between_two_limits_are_in_neither_pool() -> None:
    asked = boxes((0, 0, 10, 7), (0, 0, 10, 6), (0, 0, 10, 3), (0, 0, 10, 2.9))
    labels = label_boxes(asked, GT, GT_LABELS, n_classes=4, limits=Limits(0.7, 0.3))
    np.testing.assert_array_equal(labels, [3, -1, -1, 0])
    kept, kept_labels = image_windows(GT, GT_LABELS, NO_CROWD, asked, n_classes=4, limits=Limits(0.7, 0.3))
    np.testing.assert_array_equal(kept, np.concatenate([GT, asked[[0, 3]]]))
    np.testing.assert_array_equal(kept_labels, [3, 1, 3, 0])


def test_background_may_have_to_be_near_an_object() -> None:
    # IoU 2/3, 60/140, 100/1000 (exactly the limit is background), 100/1010, 0
    asked = boxes((0, 0, 15, 10), (0, 4, 10, 14), (0, 0, 10, 100), (0, 0, 10, 101), (50, 50, 60, 60))
    limits = Limits(bg_low=0.1)
    assert label_boxes(asked, GT[:1], GT_LABELS[:1], n_classes=4, limits=limits).tolist() == [3, 0, 0, -1, -1]
    assert label_boxes(asked, GT[:1], GT_LABELS[:1], n_classes=4).tolist() == [3, 0, 0, 0, 0]
    no_object = label_boxes(asked, GT[:0], GT_LABELS[:0], n_classes=4, limits=limits)
    assert no_object.tolist() == [-1] * 5
    with pytest.raises(ValueError, match=r"bg_iou_low \(0.3\) must be below finetune.bg_iou \(0.3\)"):
        FinetuneSettings(bg_iou=0.3, bg_iou_low=0.3)


def test_image_without_objects_is_all_background() -> None:
    none = np.zeros((0, 4), np.float32)
    kept, labels = image_windows(none, np.zeros(0, int), np.zeros(0, bool), GT, n_classes=4)
    assert len(kept) == 2
    np.testing.assert_array_equal(labels, [0, 0])


def test_crowd_is_no_object_and_what_lies_in_it_is_dropped() -> None:
    asked = boxes((20, 0, 28, 8), (20, 0, 40, 10), (40, 0, 50, 10), (3, 3, 3, 9))
    crowd = np.array([False, True])
    kept, labels = image_windows(GT, GT_LABELS, crowd, asked, n_classes=4)
    # the first lies in the crowd region whole; of the second, half does; the last has no area
    np.testing.assert_array_equal(kept, np.concatenate([GT[:1], asked[1:3]]))
    np.testing.assert_array_equal(labels, [3, 0, 0])


def record(ident: int, gt: np.ndarray, labels: list[int], difficult: list[bool]) -> SimpleNamespace:
    return SimpleNamespace(
        id=ident, boxes=gt, labels=np.array(labels), crowd=np.zeros(len(gt), bool), difficult=np.array(difficult)
    )


def test_ground_truth_rows_come_first_and_difficult_ones_count() -> None:
    records = [record(0, GT, [2, 0], [True, False]), record(1, GT[:1], [1], [False])]
    proposals = {0: boxes((0, 0, 9, 9), (80, 80, 90, 90)), 1: boxes((20, 0, 30, 10))}
    training, held_out = collect(
        records,
        lambda r: proposals[r.id],
        np.array([False, True]),
        n_classes=3,
        limits=Limits(),
    )
    np.testing.assert_array_equal(training.boxes, np.concatenate([GT, proposals[0]]))
    np.testing.assert_array_equal(training.labels, [3, 1, 3, 0])
    np.testing.assert_array_equal(training.images, [0, 0, 0, 0])
    np.testing.assert_array_equal(held_out.labels, [2, 0])
    np.testing.assert_array_equal(held_out.images, [1, 1])


def pool(n_fg: int, n_bg: int) -> Windows:
    labels = np.r_[np.arange(n_fg) % 3 + 1, np.zeros(n_bg, int)]
    n = len(labels)
    return Windows(np.arange(n) % 5, np.tile(np.float32([0, 0, 4, 4]), (n, 1)), labels.astype(np.int64))


def test_batch_composition_is_the_papers() -> None:
    windows = pool(5, 4000)
    rows, flips = draw_batch(windows, fg=32, bg=96, mirror=True, rng=np.random.default_rng(0))
    assert rows.shape == flips.shape == (128,)
    assert (windows.labels[rows[:96]] == 0).all()  # background first, as in the authors' data layer
    assert (windows.labels[rows[96:]] > 0).all()  # 32 from a pool of 5: with replacement


def test_draws_are_uniform_over_the_whole_pool_and_half_mirrored() -> None:
    windows, rng = pool(10, 30), np.random.default_rng(1)
    drawn = [draw_batch(windows, fg=32, bg=96, mirror=True, rng=rng) for _ in range(250)]
    counts = Counter(np.concatenate([rows for rows, _ in drawn]).tolist())
    # 800 expected of each of the 10 foreground and 30 background rows; 6 standard deviations is 170
    assert len(counts) == 40
    assert all(abs(count - 800) < 170 for count in counts.values())
    assert abs(np.concatenate([flips for _, flips in drawn]).mean() - 0.5) < 0.02


def test_no_mirroring_when_off() -> None:
    _, flips = draw_batch(pool(3, 3), fg=50, bg=50, mirror=False, rng=np.random.default_rng(0))
    assert not flips.any()


def test_without_background_a_batch_is_foreground_only() -> None:
    rows, flips = draw_batch(pool(3, 0), fg=4, bg=12, mirror=True, rng=np.random.default_rng(0))
    assert rows.shape == flips.shape == (4,)


@settings(deadline=None, max_examples=60)
@given(n=st.integers(0, 40), fraction=st.floats(0, 0.5), seed=st.integers(0, 9))
def test_some_images_are_held_out_but_never_all(n: int, fraction: float, seed: int) -> None:
    out = hold_out(n, fraction, np.random.default_rng(seed))
    assert out.shape == (n,)
    if n > 1:
        assert (~out).any()
        assert out.any() == (fraction > 0)
        assert fraction == 0 or out.sum() == max(round(fraction * n), 1)
    else:
        assert not out.any()


def test_held_out_images_follow_the_seed() -> None:
    first = hold_out(50, 0.2, np.random.default_rng(0))
    np.testing.assert_array_equal(first, hold_out(50, 0.2, np.random.default_rng(0)))
    assert (first != hold_out(50, 0.2, np.random.default_rng(1))).any()


@pytest.mark.parametrize(("n_fg", "n_bg", "expected"), [(100, 100, (10, 30)), (4, 100, (4, 30)), (100, 7, (10, 7))])
def test_held_out_windows_have_the_batchs_shares(n_fg: int, n_bg: int, expected: tuple[int, int]) -> None:
    windows = pool(n_fg, n_bg)
    rows = draw_held_out(windows, count=40, fg_share=0.25, rng=np.random.default_rng(0))
    assert len(set(rows.tolist())) == len(rows)
    assert (np.diff(rows) > 0).all()
    assert ((windows.labels[rows] > 0).sum(), (windows.labels[rows] == 0).sum()) == expected
