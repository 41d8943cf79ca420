"""The bootstrap's weights against evaluating the resampled set as if it were a dataset of its own."""

import numpy as np
import pytest
from evaluation_cases import random_case

from stages.scoring.bootstrap import image_weights, interval, resampled_map
from stages.scoring.matching import match
from stages.scoring.objects import FlatDetections, GroundTruth
from stages.scoring.voc import area_ap, curve, mean_ap


def resample(truth, found, drawn):
    """The dataset whose images are ``drawn``, repeats being images of their own."""
    objects = [(k, np.flatnonzero(truth.image == i)) for k, i in enumerate(drawn)]
    rows = [(k, np.flatnonzero(found.image == i)) for k, i in enumerate(drawn)]
    o, d = np.concatenate([r for _, r in objects]), np.concatenate([r for _, r in rows])
    new_truth = GroundTruth(
        np.repeat([k for k, _ in objects], [len(r) for _, r in objects]),
        truth.labels[o],
        truth.boxes[o],
        truth.difficult[o],
        truth.crowd[o],
        len(drawn),
        truth.n_classes,
    )
    image = np.repeat([k for k, _ in rows], [len(r) for _, r in rows])
    return new_truth, FlatDetections(image, found.labels[d], found.boxes[d], found.scores[d])


def test_weights_equal_a_real_resample():
    truth, found = random_case(4, n_images=15, ties=False)
    weights = image_weights(15, 20, np.random.default_rng(0))
    assert (weights.sum(axis=1) == 15).all()
    got = resampled_map(found, match(found, truth, 0.5), truth, weights)
    assert len(set(got)) > 10
    for value, row in zip(got, weights, strict=True):
        again, detections = resample(truth, found, np.repeat(np.arange(15), row))
        matches = match(detections, again, 0.5)
        curves = [curve(detections, matches, again, j) for j in range(again.n_classes)]
        assert value == pytest.approx(mean_ap([c and area_ap(c.recall, c.precision) for c in curves]), abs=1e-12)


def test_interval_is_of_the_finite_samples():
    assert interval(np.array([0.0, 1.0, np.nan]), 0.5) == pytest.approx((0.25, 0.75))
    assert interval(np.full(3, np.nan)) is None
    assert interval(np.zeros(0)) is None
