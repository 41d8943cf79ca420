"""Which images are held out, and how mini-batches are drawn, against loops that follow the authors' programs."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.finetune.sampling import (
    BLOCK,
    SPARE,
    draw_batch,
    draw_block,
    draw_held_out,
    draws_in_blocks,
    hold_out,
)
from stages.finetune.windows import Windows


def pool(n_fg: int, n_bg: int) -> Windows:
    labels = np.r_[np.arange(n_fg) % 3 + 1, np.zeros(n_bg, int)]
    n = len(labels)
    return Windows(np.arange(n) % 5, np.tile(np.array([0, 0, 4, 4], np.float32), (n, 1)), labels.astype(np.int64))


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


def blocks_by_loop(windows: Windows, fg: int, bg: int, mirror: bool, seed: int) -> list[list[tuple[int, bool]]]:
    """SPP-net's authors' batches window by window (FACTS.md section 10): random images until both kinds are there ten
    times, their windows in random order, cut into mini-batches. A mirror image is an image of its own."""
    rng = np.random.default_rng(seed)
    n_images = int(windows.images.max(initial=-1)) + 1
    images = [(image, flip) for flip in ([False, True] if mirror else [False]) for image in range(n_images)]
    order = [images[i] for i in rng.permutation(len(images))]
    wanted = {True: fg * BLOCK, False: bg * BLOCK}
    windows_of = Counter(zip(windows.images.tolist(), (windows.labels > 0).tolist(), strict=True))
    needed = []
    for kind, total in wanted.items():
        held, enough = 0, len(order)
        for taken, (image, _) in enumerate(order, 1):
            held += windows_of[image, kind]
            if held > SPARE * total:
                enough = taken
                break
        needed.append(enough)
    chosen = set(order[: max(needed)])
    batches: list[list[tuple[int, bool]]] = [[] for _ in range(BLOCK)]
    for kind, each in ((False, bg), (True, fg)):
        pool = [
            (row, flip)
            for flip in ([False, True] if mirror else [False])
            for row in range(len(windows))
            if (windows.labels[row] > 0) == kind and (int(windows.images[row]), flip) in chosen
        ]
        drawn: list[tuple[int, bool]] = []
        while pool and len(drawn) < each * BLOCK:
            drawn += [pool[i] for i in rng.permutation(len(pool))]
        for number in range(BLOCK):
            batches[number] += drawn[: each * BLOCK][number * each : (number + 1) * each]
    return batches


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(
    ("n_images", "n_fg", "n_bg", "fg", "bg"), [(30, 9000, 26000, 1, 2), (6, 40, 90, 2, 3), (3, 5, 0, 1, 2)]
)
def test_blocks_are_the_authors_to_the_window(
    n_images: int, n_fg: int, n_bg: int, fg: int, bg: int, mirror: bool
) -> None:
    """Many images, of which some are taken; few windows, which come again; no background."""
    rng = np.random.default_rng(5)
    n = n_fg + n_bg
    labels = np.r_[np.ones(n_fg, np.int64), np.zeros(n_bg, np.int64)]
    windows = Windows(rng.integers(0, n_images, n), np.zeros((n, 4), np.float32), labels)
    found = draw_block(windows, fg=fg, bg=bg, mirror=mirror, rng=np.random.default_rng(8))
    expected = blocks_by_loop(windows, fg, bg, mirror, 8)
    assert [list(zip(rows.tolist(), flips.tolist(), strict=True)) for rows, flips in found] == expected


def test_no_window_comes_again_in_a_block_that_has_enough() -> None:
    windows = pool(4000, 12000)
    found = draw_block(windows, fg=8, bg=24, mirror=False, rng=np.random.default_rng(0))
    assert len(found) == BLOCK
    for rows, flips in found:
        assert rows.shape == flips.shape == (32,)
        assert (windows.labels[rows[:24]] == 0).all() and (windows.labels[rows[24:]] > 0).all()
    drawn = np.concatenate([rows for rows, _ in found])
    assert len(set(drawn.tolist())) == len(drawn) == 16000  # every one of them, once


def test_a_batch_follows_from_its_number_whatever_was_drawn_before() -> None:
    windows = pool(40, 90)
    draw = draws_in_blocks(windows, fg=2, bg=3, mirror=True, rng_of=np.random.default_rng)
    for number in (1203, 0, 499, 500, 3, 1203):
        block = draw_block(windows, fg=2, bg=3, mirror=True, rng=np.random.default_rng(number // BLOCK))
        for found, expected in zip(draw(number), block[number % BLOCK], strict=True):
            np.testing.assert_array_equal(found, expected)


def every_class(n: int) -> np.ndarray:
    return np.ones((n, 1), bool)


@settings(deadline=None, max_examples=60)
@given(n=st.integers(0, 40), fraction=st.floats(0, 0.5), seed=st.integers(0, 9))
def test_some_images_are_held_out_but_never_all(n: int, fraction: float, seed: int) -> None:
    out = hold_out(every_class(n), fraction, np.random.default_rng(seed))
    assert out.shape == (n,)
    if n > 1:
        assert (~out).any()
        assert out.any() == (fraction > 0)
        assert fraction == 0 or out.sum() == max(round(fraction * n), 1)
    else:
        assert not out.any()


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32), st.floats(0.01, 0.5))
def test_no_class_loses_its_last_image(seed: int, fraction: float) -> None:
    rng = np.random.default_rng(seed)
    shown = rng.random((int(rng.integers(2, 30)), int(rng.integers(1, 6)))) < rng.choice([0.05, 0.3, 0.9])
    out = hold_out(shown, fraction, np.random.default_rng(seed))
    np.testing.assert_array_equal(shown[~out].any(axis=0), shown.any(axis=0))
    count = max(round(fraction * len(shown)), 1)
    assert out.sum() <= count
    if out.sum() < count:  # each that is left is the last of some class
        for image in np.flatnonzero(~out):
            assert (shown[~out].sum(axis=0)[shown[image]] == 1).any()


def test_the_images_are_those_of_before_where_no_class_is_at_stake() -> None:
    out = hold_out(every_class(50), 0.2, np.random.default_rng(7))
    expected = np.zeros(50, bool)
    expected[np.random.default_rng(7).permutation(50)[:10]] = True
    np.testing.assert_array_equal(out, expected)


def test_held_out_images_follow_the_seed() -> None:
    first = hold_out(every_class(50), 0.2, np.random.default_rng(0))
    np.testing.assert_array_equal(first, hold_out(every_class(50), 0.2, np.random.default_rng(0)))
    assert (first != hold_out(every_class(50), 0.2, np.random.default_rng(1))).any()


@pytest.mark.parametrize(("n_fg", "n_bg", "expected"), [(100, 100, (10, 30)), (4, 100, (4, 30)), (100, 7, (10, 7))])
def test_held_out_windows_have_the_batchs_shares(n_fg: int, n_bg: int, expected: tuple[int, int]) -> None:
    windows = pool(n_fg, n_bg)
    rows = draw_held_out(windows, count=40, fg_share=0.25, rng=np.random.default_rng(0))
    assert len(set(rows.tolist())) == len(rows)
    assert (np.diff(rows) > 0).all()
    assert ((windows.labels[rows] > 0).sum(), (windows.labels[rows] == 0).sum()) == expected
