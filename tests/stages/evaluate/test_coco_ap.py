"""COCO AP against pycocotools fed by hand, and beside VOC's AP."""

import contextlib
import io
import json

import numpy as np
import pytest
from evaluation_cases import detections_of, random_case, truth_of
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from stages.evaluate.coco import coco_scores
from stages.evaluate.matching import match
from stages.evaluate.result_files import coco_results
from stages.evaluate.voc import area_ap, curve, mean_ap


def plain_coco(tmp_path, truth, found):
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
def test_equals_pycocotools_on_the_result_files(tmp_path, difficult, crowd, capsys):
    truth, found = random_case(11, n_images=20, difficult=difficult, crowd=crowd)
    stats = plain_coco(tmp_path, truth, found)
    scores = coco_scores(found, truth)
    assert 0 < stats[0] < 1
    assert (scores.ap, scores.ap50, scores.ap75) == pytest.approx(tuple(stats[:3]), abs=1e-12)
    assert capsys.readouterr().out == ""


def test_difficult_objects_do_not_lower_the_score():
    box, hard = (0, 0, 50, 50), (100, 100, 150, 150)
    truth = truth_of([(0, 0, box), (0, 0, hard, True)], 1, 1)
    ignoring = coco_scores(detections_of([(0, 0, box, 0.5), (0, 0, hard, 0.9)]), truth)
    missing = coco_scores(detections_of([(0, 0, box, 0.5)]), truth)
    assert ignoring.ap == missing.ap == pytest.approx(1.0)


def test_ap50_is_vocs_area_but_for_interpolation():
    """Without difficult objects and equal scores the two differ by 101-point sampling and second-choice matches."""
    truth, found = random_case(3, n_images=60, difficult=0.0, ties=False)
    matches = match(found, truth, 0.5)
    curves = [curve(found, matches, truth, j) for j in range(truth.n_classes)]
    voc = mean_ap([area_ap(c.recall, c.precision) for c in curves])
    assert 0.2 < voc < 0.98
    assert coco_scores(found, truth).ap50 == pytest.approx(voc, abs=0.02)


def test_perfect_nothing_and_no_objects():
    truth = truth_of([(0, 0, (0, 0, 50, 50)), (1, 1, (5, 5, 20, 80))], 2, 3)
    perfect = coco_scores(detections_of([(0, 0, (0, 0, 50, 50), 0.9), (1, 1, (5, 5, 20, 80), -2.0)]), truth)
    assert (perfect.ap, perfect.ap50) == (pytest.approx(1.0), pytest.approx(1.0))
    assert perfect.per_class[2] is None
    nothing = coco_scores(detections_of([]), truth)
    assert (nothing.ap, nothing.ap50, nothing.ap75) == (0.0, 0.0, 0.0)
    empty = coco_scores(detections_of([(0, 0, (0, 0, 9, 9), 1.0)]), truth_of([], 1, 1))
    assert empty.ap is None
    assert np.array_equal(empty.per_class, [None])
