"""COCO AP against pycocotools on files, which is the slow version here, and beside VOC's AP."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_cases import detections_of, random_case, truth_of
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from stages.scoring.coco import coco_scores
from stages.scoring.files import coco_results
from stages.scoring.matching import match, ranked_by_class
from stages.scoring.objects import FlatDetections, GroundTruth
from stages.scoring.voc import area_ap, curve, mean_ap


def plain_coco(tmp_path: Path, truth: GroundTruth, found: FlatDetections) -> Any:
    """pycocotools as anyone runs it on files: ids of our choice, difficult objects put out of every area range."""
    image_ids = [100 + 7 * i for i in range(truth.n_images)]
    category_ids = [3 * j + 2 for j in range(truth.n_classes)]
    annotations = []
    for n in range(len(truth.labels)):
        x1, y1, x2, y2 = map(float, truth.boxes[n])
        annotations.append(
            {
                "id": n + 1,
                "image_id": image_ids[truth.image[n]],
                "category_id": category_ids[truth.labels[n]],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": -1 if truth.difficult[n] else (x2 - x1) * (y2 - y1),
                "iscrowd": int(truth.crowd[n]),
            }
        )
    document = {
        "images": [{"id": i} for i in image_ids],
        "categories": [{"id": j, "name": str(j)} for j in category_ids],
        "annotations": annotations,
    }
    (tmp_path / "truth.json").write_text(json.dumps(document))
    (tmp_path / "found.json").write_text(json.dumps(coco_results(found, image_ids, category_ids)))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "truth.json"))
        evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "found.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize(
    ("difficult", "crowd"),
    [(0.0, 0.0), (0.3, 0.0), (0.0, 0.2), (0.2, 0.2)],
    ids=["plain", "difficult", "crowd", "both"],
)
def test_equals_pycocotools_on_the_result_files(
    tmp_path: Path, difficult: float, crowd: float, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, found = random_case(11, n_images=20, difficult=difficult, crowd=crowd)
    stats = plain_coco(tmp_path, truth, found)
    scores = coco_scores(found, truth)
    assert 0 < stats[0] < 1
    assert (scores.ap, scores.ap50, scores.ap75) == pytest.approx(tuple(stats[:3]), abs=1e-12)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("seed", range(12))
def test_equals_pycocotools_in_crowded_images(tmp_path: Path, seed: int) -> None:
    """Hundreds of jittered detections on few objects: second choices, ties, and what lies beyond the best 100."""
    rng = np.random.default_rng(seed)
    truth, _ = random_case(seed, n_images=2, n_classes=2, difficult=0.2, crowd=0.2)
    assert truth.positives.any()
    rows = []
    for image in range(2):
        near = np.flatnonzero(truth.image == image)
        for _ in range(350 if len(near) else 0):
            box = truth.boxes[rng.choice(near)] + rng.normal(0, 6, 4)
            box[2:] = np.maximum(box[2:], box[:2] + 1)
            rows.append((image, int(rng.integers(2)), box, round(rng.normal(), 1)))
    found = detections_of(rows)
    scores = coco_scores(found, truth)
    assert (scores.ap, scores.ap50, scores.ap75) == pytest.approx(tuple(plain_coco(tmp_path, truth, found)[:3]), 1e-12)
    if seed == 0:  # the case would not tell if the best 100 were all
        counted = np.concatenate([np.flatnonzero((found.image == i) & (found.labels == 0)) for i in range(2)])
        assert len(counted) > 200


@pytest.mark.parametrize(
    ("objects", "found", "ap50", "ap75"),
    [
        # of equal overlaps the last object is taken, which leaves the first to the second detection
        ([((0, 0, 10, 8),), ((0, 2, 10, 10),)], [((0, 0, 10, 10), 0.9), ((0, 0, 10, 8), 0.8)], 1.0, 1.0),
        # an object that counts is preferred to a difficult one that overlaps more
        ([((0, 0, 10, 7),), ((0, 0, 10, 10), True)], [((0, 0, 10, 10), 0.9)], 1.0, 0.0),
    ],
    ids=["equal overlaps", "difficult is nearer"],
)
def test_which_object_is_taken(
    tmp_path: Path,
    objects: list[tuple[tuple[int, ...], ...] | tuple[tuple[int, ...], bool]],
    found: list[tuple[tuple[int, ...], float]],
    ap50: float,
    ap75: float,
) -> None:
    truth = truth_of([(0, 0, *one) for one in objects], 1, 1)
    claimed = detections_of([(0, 0, *one) for one in found])
    scores = coco_scores(claimed, truth)
    assert (scores.ap50, scores.ap75) == pytest.approx((ap50, ap75))
    assert (scores.ap, scores.ap50, scores.ap75) == pytest.approx(
        tuple(plain_coco(tmp_path, truth, claimed)[:3]), abs=1e-12
    )


@pytest.mark.parametrize("ties", [False, True])
def test_ranking_is_the_plain_sort(ties: bool) -> None:
    _, found = random_case(5, n_images=40, n_classes=4, ties=ties)
    ranking = ranked_by_class(found, 6)
    expected = sorted(range(len(found)), key=lambda d: (found.labels[d], -found.scores[d], d))
    assert ranking.order.tolist() == expected
    for label in range(6):
        assert ranking.of(label).tolist() == [d for d in expected if found.labels[d] == label]


def test_difficult_objects_do_not_lower_the_score() -> None:
    box, hard = (0, 0, 50, 50), (100, 100, 150, 150)
    truth = truth_of([(0, 0, box), (0, 0, hard, True)], 1, 1)
    ignoring = coco_scores(detections_of([(0, 0, box, 0.5), (0, 0, hard, 0.9)]), truth)
    missing = coco_scores(detections_of([(0, 0, box, 0.5)]), truth)
    assert ignoring.ap == missing.ap == pytest.approx(1.0)


def test_ap50_is_vocs_area_but_for_interpolation() -> None:
    """Without difficult objects and equal scores the two differ by 101-point sampling and second-choice matches."""
    truth, found = random_case(3, n_images=60, difficult=0.0, ties=False)
    matches = match(found, truth, 0.5)
    curves = [curve(found, matches, truth, j) for j in range(truth.n_classes)]
    voc = mean_ap([None if c is None else area_ap(c.recall, c.precision) for c in curves])
    assert voc is not None and 0.2 < voc < 0.98
    assert coco_scores(found, truth).ap50 == pytest.approx(voc, abs=0.02)


def test_perfect_nothing_and_no_objects() -> None:
    truth = truth_of([(0, 0, (0, 0, 50, 50)), (1, 1, (5, 5, 20, 80))], 2, 3)
    perfect = coco_scores(detections_of([(0, 0, (0, 0, 50, 50), 0.9), (1, 1, (5, 5, 20, 80), -2.0)]), truth)
    assert (perfect.ap, perfect.ap50) == pytest.approx((1.0, 1.0))
    assert perfect.per_class[2] is None
    nothing = coco_scores(detections_of([]), truth)
    assert (nothing.ap, nothing.ap50, nothing.ap75) == (0.0, 0.0, 0.0)
    empty = coco_scores(detections_of([(0, 0, (0, 0, 9, 9), 1.0)]), truth_of([], 1, 1))
    assert empty.ap is None
    assert tuple(empty.per_class) == (None,)
