"""The report on anchors: counts by hand, and suggested scales held to what the anchors then reach."""

import numpy as np
import pytest

from stages.boxes.assignment import assign
from stages.rpn.anchors import Anchors, Places, inside
from stages.rpn.coverage import coverage

PAPER = Anchors((128, 256, 512), (0.5, 1, 2))
WIDTH, HEIGHT = 640, 480
PLACES = Places(8, 8, 16, 16)


def objects_of(rng: np.random.Generator, side: float, n: int) -> np.ndarray:
    """Boxes near a square of that side, spread 10%, away from the edges."""
    centre = rng.uniform([220, 220], [WIDTH - 220, HEIGHT - 220], (n, 2))
    half = side / 2 * np.exp(rng.normal(0, 0.1, (n, 2)))
    return np.concatenate([centre - half, centre + half], axis=1)


def best_of(anchors: Anchors, objects: np.ndarray) -> np.ndarray:
    """Each object's largest IoU with an anchor inside the image."""
    grid = anchors.grid((HEIGHT // 16, WIDTH // 16), PLACES)
    return assign(grid[inside(grid, WIDTH, HEIGHT, 0)], objects).best


@pytest.fixture(scope="module")
def cells() -> tuple[np.ndarray, np.ndarray]:
    """Blood cells, as bccd has them at 480 px: 39 px, 105 px (most of them) and 200 px."""
    rng = np.random.default_rng(0)
    parts = [objects_of(rng, side, n) for side, n in ((39, 40), (105, 300), (200, 30))]
    return np.concatenate(parts), np.repeat([0, 1, 2], [len(part) for part in parts])


def test_small_objects_are_missed_and_the_suggested_scales_reach_them(cells: tuple[np.ndarray, np.ndarray]) -> None:
    objects, labels = cells
    found = coverage(objects, labels, best_of(PAPER, objects), 3, PAPER, (16, 16))
    assert found.objects.tolist() == [40, 300, 30]
    assert found.missed[0] == 40 and found.missed[2] == 0
    assert not found.unreachable.any()
    assert 2 <= len(found.scales_px) <= 4
    again = Anchors(found.scales_px, PAPER.ratios)
    better = coverage(objects, labels, best_of(again, objects), 3, again, (16, 16))
    assert better.missed.sum() <= 0.03 * len(objects)


def test_nothing_missed_suggests_nothing(cells: tuple[np.ndarray, np.ndarray]) -> None:
    objects, labels = cells
    found = coverage(objects, labels, np.full(len(objects), 0.6), 4, PAPER, (16, 16))
    assert found.scales_px == () and found.missed.tolist() == [0, 0, 0, 0]
    assert found.objects.tolist() == [40, 300, 30, 0]


def test_a_rare_class_weighs_as_much_as_a_frequent_one(cells: tuple[np.ndarray, np.ndarray]) -> None:
    rng = np.random.default_rng(1)
    objects = np.concatenate([objects_of(rng, 100, 5000), objects_of(rng, 300, 5)])
    labels = np.repeat([0, 1], [5000, 5])
    best = np.repeat([0.0, 0.0], [5000, 5])
    scales = coverage(objects, labels, best, 2, PAPER, (16, 16)).scales_px
    assert min(scales) < 130 and max(scales) > 225


def test_what_no_scale_reaches_is_said(cells: tuple[np.ndarray, np.ndarray]) -> None:
    strips = np.array([[0, 0, 400, 8], [0, 0, 8, 300]], float)  # the ratios are 1/2, 1, 2
    found = coverage(strips, np.array([1, 1]), best_of(PAPER, strips), 2, PAPER, (16, 16))
    assert found.unreachable.tolist() == [0, 2]
    assert found.scales_px == ()


def test_no_objects_at_all() -> None:
    none = coverage(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0), 2, PAPER, (16, 16))
    assert none.objects.tolist() == none.missed.tolist() == none.unreachable.tolist() == [0, 0]
    assert none.scales_px == ()
