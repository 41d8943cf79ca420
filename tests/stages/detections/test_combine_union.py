"""Combining is suppression of the concatenation: against torchvision, and what follows from it."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import batched_nms

from stages.detections.suppression import BoxSet, Candidates, suppressed, union
from stages.detections.thresholds import dataset_thresholds

CLASSES = ("a", "b", "c")
seeds = st.integers(0, 10**6)


def candidates(rng: np.random.Generator, scores: np.ndarray) -> Candidates:
    """One row per score; boxes of at least a pixel in a frame so small that many overlap; any order of classes."""

    def boxes() -> np.ndarray:
        corner = rng.uniform(0, 40, (len(scores), 2))
        return np.concatenate([corner, corner + rng.uniform(1, 40, (len(scores), 2))], axis=1).astype(np.float32)

    return Candidates(boxes(), boxes(), scores.astype(np.float32), rng.integers(0, len(CLASSES), len(scores)))


def detectors(seed: int, n: int) -> list[Candidates]:
    """Up to 30 candidates each, no two of equal score."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 30, n)
    scores = rng.permutation(counts.sum()) / 7
    return [candidates(rng, part) for part in np.split(scores, np.cumsum(counts)[:-1])]


def rows(found: BoxSet) -> list[tuple[float, ...]]:
    """In the order in which they stand."""
    return [
        (int(label), float(score), *box.tolist())
        for label, score, box in zip(found.labels, found.scores, found.boxes, strict=True)
    ]


@given(seeds, st.integers(1, 4), st.sampled_from([0.3, 0.5, 0.9]))
@settings(deadline=None, max_examples=60)
def test_as_torchvision_on_the_concatenation(seed: int, n: int, nms_iou: float) -> None:
    parts = detectors(seed, n)
    found = suppressed(union(parts), nms_iou)
    scores = np.concatenate([part.scores for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    for name in ("bbox", "no_bbox"):
        boxes = np.concatenate([getattr(part, name) for part in parts])
        # float64, as ours is reckoned: an IoU may lie at the threshold within float32's rounding
        kept = batched_nms(
            torch.from_numpy(boxes.astype(np.float64)),
            torch.from_numpy(scores.astype(np.float64)),
            torch.from_numpy(labels),
            nms_iou,
        ).numpy()
        expected = BoxSet(boxes[kept], scores[kept], labels[kept])
        assert rows(getattr(found, name)) == sorted(rows(expected), key=lambda row: (row[0], -row[1]))


@given(seeds, st.integers(2, 4), st.randoms())
@settings(deadline=None, max_examples=40)
def test_the_order_of_detectors_does_not_matter(seed: int, n: int, random: object) -> None:
    parts = detectors(seed, n)
    shuffled = list(parts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = suppressed(union(parts), 0.3), suppressed(union(shuffled), 0.3)
    assert rows(one.bbox) == rows(other.bbox)
    assert rows(one.no_bbox) == rows(other.no_bbox)


def test_of_equal_scores_the_first_detectors_comes_first() -> None:
    here, there = np.array([[0, 0, 10, 10]], np.float32), np.array([[1, 1, 11, 11]], np.float32)
    first = Candidates(here, here, np.array([0.5], np.float32), np.array([0]))
    second = Candidates(there, there, np.array([0.5], np.float32), np.array([0]))
    assert rows(suppressed(union([first, second]), 0.3).bbox) == [(0, 0.5, 0, 0, 10, 10)]
    assert rows(suppressed(union([second, first]), 0.3).bbox) == [(0, 0.5, 1, 1, 11, 11)]


@given(seeds, st.integers(1, 3), st.integers(1, 8))
@settings(deadline=None, max_examples=60)
def test_a_detector_with_itself_is_as_alone(seed: int, times: int, rank_factor: int) -> None:
    """Suppression and the dataset-wide thresholds both: three images, ties in score among them."""
    rng = np.random.default_rng(seed)
    images = [candidates(rng, rng.integers(0, 12, rng.integers(0, 30)) / 4) for _ in range(3)]
    alone = dataset_thresholds([(i.scores, i.labels) for i in images], CLASSES, rank_factor, 3)
    joined = [union([image] * times) for image in images]
    together = dataset_thresholds([(i.scores, i.labels) for i in joined], CLASSES, rank_factor * times, 3)
    assert together == alone
    for image, several in zip(images, joined, strict=True):
        one, same = suppressed(image, 0.3), suppressed(several, 0.3)
        assert rows(one.bbox) == rows(same.bbox)
        assert rows(one.no_bbox) == rows(same.no_bbox)


def test_a_better_window_of_one_suppresses_the_others() -> None:
    here = np.array([[0, 0, 10, 10]], np.float32)
    near = np.array([[0, 0, 10, 9]], np.float32)
    sure = Candidates(here, here, np.array([0.9], np.float32), np.array([1]))
    unsure = Candidates(near, near, np.array([0.2], np.float32), np.array([1]))
    assert rows(suppressed(union([unsure, sure]), 0.3).bbox) == [(1, float(np.float32(0.9)), 0, 0, 10, 10)]
