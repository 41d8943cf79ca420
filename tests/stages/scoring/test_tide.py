"""TIDE's figures against one loop over images and detections, and by hand; tidecv's own: test_hoiem_golden.py."""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from evaluation_cases import detections_of, random_case, truth_of

from stages.boxes.geometry import iou
from stages.scoring.objects import FlatDetections, GroundTruth
from stages.scoring.tide import KINDS, Tide, tide

Point = tuple[int, float, bool]  # class, score, right


def overlaps(found: FlatDetections, d: int, truth: GroundTruth, objects: list[int]) -> dict[int, float]:
    return {k: float(iou(found.boxes[d : d + 1], truth.boxes[k : k + 1])[0, 0]) for k in objects}


def within(box: Any, region: Any) -> float:
    sides = np.minimum(box[2:], region[2:]) - np.maximum(box[:2], region[:2])
    return float(np.prod(np.maximum(sides, 0)) / np.prod(box[2:] - box[:2]))


def best(of: dict[int, float]) -> tuple[float, int]:
    """The largest overlap, of the first that has it."""
    return max(((value, -k) for k, value in of.items()), default=(0.0, 1)) if of else (0.0, 1)


class Slow:
    """What TIDE's paper and program do, written down in the order in which they do it."""

    def __init__(self, found: FlatDetections, truth: GroundTruth, min_iou: float = 0.5) -> None:
        self.right: list[tuple[int, Point]] = []  # with their place in the order of reading
        self.errors: list[tuple[int, str, Point | None, int, Point | None]] = []  # place, kind, as it is, mends, mended
        self.positives = [0] * truth.n_classes
        self.unfound = [0] * truth.n_classes
        self.missed: list[int] = []
        place = 0
        for image in range(truth.n_images):
            objects = [k for k in range(len(truth.labels)) if truth.image[k] == image and not truth.ignored[k]]
            regions = [k for k in range(len(truth.labels)) if truth.image[k] == image and truth.ignored[k]]
            rows = [d for d in range(len(found)) if found.image[d] == image]
            rows = sorted(rows, key=lambda d: -float(found.scores[d]))[:100]
            used, near = self._used(found, truth, rows, objects, min_iou)
            mended: dict[int, int] = {}
            for d in rows:
                label, score = int(found.labels[d]), float(found.scores[d])
                place += 1
                if d in used:
                    self.right.append((place, (label, score, True)))
                    continue
                ignored = any(
                    truth.labels[k] == label and within(found.boxes[d], truth.boxes[k]) > min_iou for k in regions
                )
                point = None if ignored else (label, score, False)
                kind, target = self._kind(near[d], label, truth, min_iou)
                mends = target >= 0 and target not in used.values() and target not in mended
                if mends:
                    mended[target] = d
                fixed = (int(truth.labels[target]), score, True) if mends else None
                self.errors.append((place, kind, point, target, fixed))
            for k in objects:
                self.positives[truth.labels[k]] += 1
                self.unfound[truth.labels[k]] += k not in used.values()
                if k not in used.values() and k not in mended:
                    self.missed.append(int(truth.labels[k]))

    @staticmethod
    def _used(
        found: FlatDetections, truth: GroundTruth, rows: list[int], objects: list[int], min_iou: float
    ) -> tuple[dict[int, int], dict[int, dict[int, float]]]:
        used: dict[int, int] = {}
        near = {d: overlaps(found, d, truth, objects) for d in rows}
        for d in rows:
            free = {k: v for k, v in near[d].items() if truth.labels[k] == found.labels[d] and k not in used.values()}
            value, which = best(free)
            if free and value >= min_iou:
                used[d] = -which
        return used, near

    @staticmethod
    def _kind(near: dict[int, float], label: int, truth: GroundTruth, min_iou: float) -> tuple[str, int]:
        own, mine = best({k: v for k, v in near.items() if truth.labels[k] == label})
        other, theirs = best({k: v for k, v in near.items() if truth.labels[k] != label})
        if 0.1 <= own <= min_iou:
            return "Loc", -mine
        if other >= min_iou:
            return "Cls", -theirs
        if own > min_iou:
            return "Dupe", -1
        return ("Bkg" if max(own, other) <= 0.1 else "Both"), -1

    def ap(self, points: list[Point], positives: list[int]) -> float:
        by_class = defaultdict(list)
        for label, score, right in points:
            by_class[label].append((score, right))
        aps = []
        for label, n_objects in enumerate(positives):
            ranked = sorted(by_class[label], key=lambda point: -point[0])
            if not n_objects:
                aps += [0.0] if ranked else []
                continue
            curve, tp = [], 0
            for n, (_, right) in enumerate(ranked, 1):
                tp += right
                curve.append((tp / n_objects, tp / n))
            steps = [next((j for j, (recall, _) in enumerate(curve) if recall >= t / 100), None) for t in range(101)]
            aps.append(sum(max(p for _, p in curve[j:]) for j in steps if j is not None) / 101)
        return sum(aps) / len(aps)

    def figures(self) -> dict[str, float]:
        known = [(place, point) for place, _, point, _, _ in self.errors if point is not None]
        wrong = [point for _, point in known]
        right = [point for _, point in self.right]
        base = self.ap([point for _, point in sorted([*known, *self.right])], self.positives)
        out = {"AP": base}
        for kind in KINDS:
            points = [(fixed if one == kind else point) for _, one, point, _, fixed in self.errors]
            left = list(self.positives)
            for label in self.missed if kind == "Miss" else ():
                left[label] -= 1
            after = self.ap([point for point in points if point is not None] + right, left)
            out[kind] = max(after - base, 0.0)
        one = self.ap([(label, float(ok), ok) for label, _, ok in wrong + right], self.positives)
        asked = [a - b for a, b in zip(self.positives, self.unfound, strict=True)]
        return out | {"FP": one - base, "FN": self.ap(wrong + right, asked) - base}


def figures(of: Tide) -> dict[str, float]:
    return {"AP": of.ap, **of.gains, "FP": of.false_positives, "FN": of.false_negatives}


@pytest.mark.parametrize("seed", range(20))
def test_every_figure_is_the_loop_s(seed: int) -> None:
    truth, found = random_case(seed, n_images=10, n_classes=3, crowd=0.1)
    got, slow = tide(found, truth), Slow(found, truth)
    assert got is not None
    assert figures(got) == pytest.approx(slow.figures(), abs=1e-12)
    kinds = [kind for _, kind, _, _, _ in slow.errors]
    assert got.counts == {kind: kinds.count(kind) for kind in KINDS} | {"Miss": len(slow.missed)}


def test_each_kind_by_hand() -> None:
    """Two classes, six objects; one detection of each kind, and one object that nothing finds."""
    box, far = [0, 0, 10, 10], [50, 50, 60, 60]
    truth = truth_of([(i, 0, box) for i in range(4)] + [(4, 0, box), (5, 1, box)], 7, 2)
    found = detections_of(
        [
            (0, 0, box, 0.9),
            (0, 0, box, 0.5),  # a duplicate
            (1, 0, [0, 0, 10, 3], 0.8),  # IoU 0.3
            (2, 1, box, 0.7),  # the other class
            (3, 0, far, 0.6),  # nothing there
            (4, 1, [0, 0, 10, 3], 0.4),  # both
            (6, 1, far, 0.3),  # an image without objects
        ]
    )
    got = tide(found, truth)
    assert got is not None
    assert got.counts == {"Loc": 1, "Cls": 1, "Dupe": 1, "Bkg": 2, "Both": 1, "Miss": 3}
    assert got.gains["Dupe"] == 0.0 and got.gains["Miss"] > 0


def test_only_a_hundred_detections_of_an_image_count() -> None:
    box = [0, 0, 10, 10]
    truth = truth_of([(0, 0, box)], 1, 1)
    wrong = [(0, 0, [40, 40, 50, 50 + k / 10], 1.0 + k) for k in range(100)]
    last = tide(detections_of([*wrong, (0, 0, box, 0.5)]), truth)
    assert last is not None and last.ap == 0.0 and last.counts["Miss"] == 1
    first = tide(detections_of([*wrong[1:], (0, 0, box, 0.5)]), truth)
    assert first is not None and first.ap > 0


@pytest.mark.parametrize("objects", [[], [(0, 0, [0, 0, 10, 10], True)]])
def test_without_an_object_and_a_detection_there_is_nothing_to_say(objects: list[tuple[Any, ...]]) -> None:
    assert tide(detections_of([]), truth_of(objects, 1, 2)) is None


def test_detections_alone_or_objects_alone() -> None:
    alone = tide(detections_of([(0, 1, [0, 0, 9, 9], 1.0)]), truth_of([], 1, 2))
    assert alone is not None and alone.ap == 0.0 and alone.counts["Bkg"] == 1
    unseen = tide(detections_of([]), truth_of([(0, 1, [0, 0, 9, 9])], 1, 2))
    assert unseen is not None and unseen.ap == 0.0 and unseen.counts["Miss"] == 1 and unseen.gains["Miss"] == 0.0
