"""The bootstrap's weights against evaluating the resampled set as if it were a dataset of its own."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from evaluation_cases import detections_of, random_case, resample, truth_of
from numpy.typing import NDArray

from stages.scoring import bootstrap
from stages.scoring.bootstrap import (
    Weights,
    image_weights,
    interval,
    resampled_coco,
    resampled_eleven_point_map,
    resampled_map,
    resampling,
)
from stages.scoring.coco import coco_matches, coco_scores
from stages.scoring.matching import match
from stages.scoring.objects import FlatDetections, GroundTruth
from stages.scoring.voc import area_ap, curve, eleven_point_ap, mean_ap


def test_weights_equal_a_real_resample() -> None:
    truth, found = random_case(4, n_images=15, ties=False)
    weights = image_weights(15, 20, np.random.default_rng(0))
    assert (weights.sum(axis=1) == 15).all()
    area = resampled_map(found, match(found, truth, 0.5), truth, weights)
    eleven = resampled_eleven_point_map(found, match(found, truth, 0.5), truth, weights)
    ap, ap50 = resampled_coco(found, coco_matches(found, truth), truth, weights)
    assert all(len(set(got)) > 10 for got in (area, eleven, ap, ap50))
    for k, row in enumerate(weights):
        again, detections = resample(truth, found, np.repeat(np.arange(15), row).tolist())
        matches = match(detections, again, 0.5)
        curves = [curve(detections, matches, again, j) for j in range(again.n_classes)]
        assert area[k] == pytest.approx(
            mean_ap([None if c is None else area_ap(c.recall, c.precision) for c in curves]), abs=1e-12
        )
        points = [None if c is None else eleven_point_ap(c.recall, c.precision) for c in curves]
        assert eleven[k] == pytest.approx(mean_ap(points), abs=1e-12)
        coco = coco_scores(detections, again)
        assert (ap[k], ap50[k]) == pytest.approx((coco.ap, coco.ap50), abs=1e-12)


@pytest.mark.parametrize("crowd", [0.0, 0.3])
def test_weights_of_one_give_the_scores_themselves(crowd: float) -> None:
    truth, found = random_case(7, n_images=40, crowd=crowd)
    once = np.ones((2, 40), np.int64)
    matches = match(found, truth, 0.5)
    curves = [curve(found, matches, truth, j) for j in range(3)]
    coco = coco_scores(found, truth)
    assert resampled_map(found, matches, truth, once) == pytest.approx(
        mean_ap([None if c is None else area_ap(c.recall, c.precision) for c in curves]), abs=1e-12
    )
    assert resampled_eleven_point_map(found, matches, truth, once) == pytest.approx(
        mean_ap([None if c is None else eleven_point_ap(c.recall, c.precision) for c in curves]), abs=1e-12
    )
    ap, ap50 = resampled_coco(found, coco_matches(found, truth), truth, once)
    assert ap == pytest.approx(coco.ap, abs=1e-12)
    assert ap50 == pytest.approx(coco.ap50, abs=1e-12)


def test_nothing_found_is_zero_and_nothing_to_find_is_undefined() -> None:
    truth, found = random_case(3, n_images=6)
    nothing = FlatDetections.of([])
    weights = image_weights(6, 9, np.random.default_rng(0))
    no_objects = GroundTruth.of([], 3)
    for one, of, expected in ((nothing, truth, 0.0), (found, no_objects, np.nan)):
        matches, coco = match(one, of, 0.5), coco_matches(one, of)
        for scores in (
            resampled_map(one, matches, of, weights),
            resampled_eleven_point_map(one, matches, of, weights),
            *resampled_coco(one, coco, of, weights),
        ):
            np.testing.assert_array_equal(scores, np.full(9, expected))


def test_a_seed_has_one_stream_of_resamples() -> None:
    drawn = [image_weights(8, 5, resampling(seed)) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()
    # the stream that reports have been made with since the first: another would move every interval
    np.testing.assert_array_equal(drawn[0], image_weights(8, 5, np.random.default_rng(np.random.SeedSequence([3, 1]))))


def test_the_parts_in_which_it_is_done_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit: neither in what is drawn nor in what is made of it."""
    truth, found = random_case(5, n_images=15, ties=False)
    whole = image_weights(15, 50, resampling(2))
    np.testing.assert_array_equal(whole, resampling(2).multinomial(15, np.full(15, 1 / 15), size=50))
    matches, coco = match(found, truth, 0.5), coco_matches(found, truth)

    def scores(weights: Weights) -> list[bytes]:
        area, eleven = (of(found, matches, truth, weights) for of in (resampled_map, resampled_eleven_point_map))
        return [one.tobytes() for one in (area, eleven, *resampled_coco(found, coco, truth, weights))]

    expected = scores(whole.astype(np.int64))
    for at_once in (1, 45, 2**23):
        monkeypatch.setattr(bootstrap, "_WEIGHTS_AT_ONCE", at_once)
        parts = image_weights(15, 50, resampling(2))
        assert parts.dtype == np.uint8 and parts.tobytes() == whole.tobytes()
        assert scores(parts) == expected


def test_weights_take_the_smallest_integer_that_holds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was drawn before a larger number stays."""

    class Rising:
        drawn = 0

        def multinomial(self, n: int, chances: object, size: int) -> NDArray[np.int64]:
            self.drawn += 1
            return np.full((size, 1), 100**self.drawn)

    monkeypatch.setattr(bootstrap, "_WEIGHTS_AT_ONCE", 1)
    rng: Any = Rising()
    weights = image_weights(1, 3, rng)
    assert weights.dtype == np.uint32 and weights.tolist() == [[100], [10_000], [1_000_000]]


def test_many_objects_and_resamples_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """As int64 the weights alone would be 64 MB, and one of each object's 1.3 GB."""
    n, box = 2000, (0, 0, 9, 9)
    truth = truth_of([(number, 0, box) for number in range(n) for _ in range(20)], n, 1)
    found = detections_of([(0, 0, box, 1.0)])
    matches, coco = match(found, truth, 0.5), coco_matches(found, truth)
    monkeypatch.setattr(bootstrap, "_WEIGHTS_AT_ONCE", 2**19)
    tracemalloc.start()
    weights = image_weights(n, 4000, np.random.default_rng(0))
    area = resampled_map(found, matches, truth, weights)
    resampled_coco(found, coco, truth, weights)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(area, weights[:, 0] / (20 * n))
    assert peak < 30e6


def test_interval_is_of_the_finite_samples() -> None:
    assert interval(np.array([0.0, 1.0, np.nan]), 0.5) == pytest.approx((0.25, 0.75))
    assert interval(np.full(3, np.nan)) is None
    assert interval(np.zeros(0)) is None
