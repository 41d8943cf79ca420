"""One image's detections against a row-by-row version, and the properties that the stage relies on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from stages.bbox.regressor import BoxRegressor
from stages.bbox.training import disabled_regressor
from stages.boxes.coding import decode
from stages.boxes.geometry import iou
from stages.boxes.nms import class_nms
from stages.detections.candidates import candidates_of, layers_needed
from stages.detections.settings import DetectSettings
from stages.detections.suppression import CANDIDATES, ImageDetections, suppressed
from stages.svm import classifier
from stages.svm.classifier import Classifier

CLASSES = ("a", "b", "c")
WIDTH, HEIGHT = 90, 70


def detector(seed: int) -> tuple[Classifier, BoxRegressor]:
    rng = np.random.default_rng(seed)
    svm = Classifier(
        "svm", "fc7", CLASSES, 0.5, rng.normal(size=(3, 6)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    )
    weights = rng.normal(0, 0.3, (3, 5, 4)).astype(np.float32)
    weights[1] = 0
    return svm, BoxRegressor(True, "pool5", CLASSES, 0.2, weights, np.array([True, False, True]))


def image(seed: int, n: int = 60) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, [WIDTH - 20, HEIGHT - 20], (n, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(3, 20, (n, 2))], axis=1).astype(np.float32)
    features = {"fc7": rng.random((n, 6)).astype(np.float16), "pool5": rng.random((n, 4)).astype(np.float16)}
    return features, boxes


def detect_image(features, boxes, svm, bbox, width, height, settings) -> ImageDetections:
    """As the stage does."""
    return suppressed(candidates_of(features, boxes, svm, bbox, width, height, settings), settings.nms_iou)


def slow(features, boxes, svm, bbox, settings, regress: bool) -> list[tuple[int, float, list[float]]]:
    """Class by class, region by region."""
    out = []
    for j in range(len(CLASSES)):
        found = []
        for r in range(len(boxes)):
            score = float(features["fc7"][r].astype(np.float64) * svm.feature_scale @ svm.weights[j] + svm.bias[j])
            if settings.score_floor is None or score > settings.score_floor:
                found.append((score, r))
        found = sorted(found, key=lambda f: (-f[0], f[1]))[: settings.max_per_class]
        kept: list[np.ndarray] = []
        for score, r in found:
            box = boxes[r]
            if regress and bbox.trained[j]:
                x = np.append(features["pool5"][r].astype(np.float64) * bbox.feature_scale, 1)
                box = decode(box[None], (x @ bbox.weights[j])[None])[0]
            box = np.clip(box, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
            if all(iou(box[None], k[None])[0, 0] <= settings.nms_iou for k in kept):
                kept.append(box)
                out.append((j, score, box.tolist()))
    return out


@pytest.mark.parametrize("settings", [DetectSettings(), DetectSettings(max_per_class=7, score_floor=-0.5, nms_iou=0.5)])
def test_as_the_slow_version(settings: DetectSettings) -> None:
    svm, bbox = detector(1)
    features, boxes = image(2)
    result = detect_image(features, boxes, svm, bbox, WIDTH, HEIGHT, settings)
    for found, regress in ((result.bbox, True), (result.no_bbox, False)):
        expected = slow(features, boxes, svm, bbox, settings, regress)
        assert found.labels.tolist() == [j for j, _, _ in expected]
        np.testing.assert_allclose(found.scores, [s for _, s, _ in expected], rtol=1e-4)
        np.testing.assert_allclose(found.boxes, [b for _, _, b in expected], atol=1e-3)
    assert len(result.bbox) and len(result.no_bbox)
    assert len(result.bbox) != len(result.no_bbox) or not np.allclose(result.bbox.boxes, result.no_bbox.boxes)


def test_classes_in_parts_are_the_same_detections(monkeypatch: pytest.MonkeyPatch) -> None:
    svm, bbox = detector(5)
    features, boxes = image(4)
    whole = detect_image(features, boxes, svm, bbox, WIDTH, HEIGHT, DetectSettings()).arrays()
    monkeypatch.setattr(classifier, "_CLASSES_AT_ONCE", 2)
    parts = detect_image(features, boxes, svm, bbox, WIDTH, HEIGHT, DetectSettings()).arrays()
    for name, array in whole.items():
        np.testing.assert_allclose(parts[name], array, rtol=1e-6)


def test_top_of_each_class_before_suppression() -> None:
    svm, bbox = detector(3)
    features, boxes = image(4)
    result = candidates_of(features, boxes, svm, bbox, WIDTH, HEIGHT, DetectSettings(max_per_class=5))
    scores = svm.scores(features["fc7"])
    for j in range(3):
        np.testing.assert_array_equal(
            result.scores[result.labels == j], np.sort(scores[:, j])[::-1][:5].astype(np.float32)
        )


def test_everything_lies_in_the_image() -> None:
    svm, bbox = detector(5)
    features, boxes = image(6)
    result = detect_image(features, 3 * boxes - 40, svm, bbox, WIDTH, HEIGHT, DetectSettings())
    for found in (result.bbox, result.no_bbox):
        assert (found.boxes >= 0).all() and (found.boxes <= [WIDTH, HEIGHT, WIDTH, HEIGHT]).all()
        assert (found.boxes.max(axis=0) == [WIDTH, HEIGHT, WIDTH, HEIGHT])[2:].all()


def test_no_region_no_detection() -> None:
    svm, bbox = detector(0)
    features = {"fc7": np.zeros((0, 6), np.float16), "pool5": np.zeros((0, 4), np.float16)}
    result = detect_image(features, np.zeros((0, 4), np.float32), svm, bbox, WIDTH, HEIGHT, DetectSettings())
    for name, array in result.arrays().items():
        assert len(array) == 0
        assert array.shape == ((0, 4) if name.endswith("boxes") else (0,))


def test_arrays_are_the_contracts() -> None:
    svm, bbox = detector(0)
    found = candidates_of(*image(0), svm, bbox, WIDTH, HEIGHT, DetectSettings())
    kept = suppressed(found, 0.3).arrays()
    dtypes = {"boxes": np.float32, "scores": np.float32, "labels": np.int64}
    assert set(kept) == {f"{p}.{n}" for p in ("bbox", "no_bbox") for n in dtypes}
    assert all(array.dtype == dtypes[name.split(".")[-1]] for name, array in kept.items())
    assert tuple(found.arrays()) == CANDIDATES
    assert [array.dtype for array in found.arrays().values()] == [np.float32, np.float32, np.float32, np.int64]


def test_disabled_regression_gives_the_same_twice_and_needs_one_layer() -> None:
    svm, bbox = detector(7)
    off = disabled_regressor("pool5", CLASSES)
    features, boxes = image(8)
    assert layers_needed(svm, bbox) == ("fc7", "pool5") and layers_needed(svm, off) == ("fc7",)
    result = detect_image({"fc7": features["fc7"]}, boxes, svm, off, WIDTH, HEIGHT, DetectSettings())
    np.testing.assert_array_equal(result.bbox.boxes, result.no_bbox.boxes)


@given(st.integers(0, 10**6), st.floats(-2, 2))
@examples(deadline=None, max_examples=40)
def test_pruning_by_score_commutes_with_suppression(seed: int, threshold: float) -> None:
    svm, bbox = detector(seed)
    features, boxes = image(seed + 1)
    result: ImageDetections = detect_image(features, boxes, svm, bbox, WIDTH, HEIGHT, DetectSettings())
    found = result.no_bbox
    after = found.boxes[found.scores >= threshold], found.labels[found.scores >= threshold]
    scores = svm.scores(features["fc7"])
    rows, labels = np.nonzero(scores >= threshold)
    kept = class_nms(boxes[rows], scores[rows, labels], labels, 0.3)
    np.testing.assert_array_equal(labels[kept], after[1])
    np.testing.assert_array_equal(boxes[rows][kept], after[0])
