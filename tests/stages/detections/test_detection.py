"""One image's detections against a row-by-row version, and the properties that the stage relies on."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from plain_arrays import as_boxes, as_labels

from cache import Payload, Recipe, Store
from manifests import ImageRecord
from stages.bbox.regressor import BoxRegressor
from stages.bbox.training import disabled_regressor
from stages.boxes.coding import decode
from stages.boxes.geometry import iou
from stages.boxes.nms import class_nms
from stages.contract import ImageTask
from stages.detections.candidates import candidates_of, layers_needed
from stages.detections.detect_stage import DetectCompute, key_params
from stages.detections.search import ProposalSearch, RegionSearch, tell_nobody
from stages.detections.settings import DetectSettings
from stages.detections.suppression import CANDIDATES, ImageDetections, suppressed
from stages.features.objects import narrow
from stages.proposals.methods import proposals_of
from stages.proposals.settings import ProposalsSettings
from stages.svm import classifier
from stages.svm.classifier import Classifier

CLASSES = ("a", "b", "c")
Order = Literal["cut_then_suppress", "suppress_then_cut"]
ORDERS: tuple[Order, ...] = ("cut_then_suppress", "suppress_then_cut")
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


def detect_image(
    features: dict[str, np.ndarray],
    boxes: np.ndarray,
    svm: Classifier,
    bbox: BoxRegressor,
    width: int,
    height: int,
    settings: DetectSettings,
) -> ImageDetections:
    """Detect as the stage does."""
    return suppressed(candidates_of(features, boxes, svm, bbox, width, height, settings), settings.nms_iou)


def survivors(found: list[tuple[float, int, np.ndarray]], nms_iou: float) -> list[tuple[float, int, np.ndarray]]:
    """Greedy suppression, best first: (score, region, box) each."""
    kept: list[tuple[float, int, np.ndarray]] = []
    for one in found:
        if all(iou(one[2][None], other[2][None])[0, 0] <= nms_iou for other in kept):
            kept.append(one)
    return kept


def slow(
    features: dict[str, np.ndarray],
    boxes: np.ndarray,
    svm: Classifier,
    bbox: BoxRegressor,
    settings: DetectSettings,
    regress: bool,
) -> list[tuple[int, float, list[float]]]:
    """Class by class, region by region, in the authors' two orders.

    VOC: above the threshold, best 100, saved; then regress, clip, suppress in the evaluation.
    ILSVRC and SPP-net: above the threshold, suppress, best 100, saved; then the same.
    """
    out = []
    for j in range(len(CLASSES)):
        found = []
        for r in range(len(boxes)):
            score = float(features["fc7"][r].astype(np.float64) * svm.feature_scale @ svm.weights[j] + svm.bias[j])
            if settings.score_floor is None or score > settings.score_floor:
                found.append((score, r, boxes[r]))
        found.sort(key=lambda f: (-f[0], f[1]))
        if settings.order == "suppress_then_cut":
            found = survivors(found, settings.nms_iou)
        saved = found[: settings.max_per_class]
        moved = []
        for score, r, proposed in saved:
            box = proposed
            if regress and bbox.trained[j]:
                x = np.append(features["pool5"][r].astype(np.float64) * bbox.feature_scale, 1)
                box = decode(box[None], (x @ bbox.weights[j])[None])[0]
            moved.append((score, r, np.clip(box, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])))
        out += [(j, score, box.tolist()) for score, _, box in survivors(moved, settings.nms_iou)]
    return out


@pytest.mark.parametrize(
    "limits", [{}, {"max_per_class": 7, "score_floor": -0.5, "nms_iou": 0.5}, {"max_per_class": 3, "nms_iou": 0.1}]
)
@pytest.mark.parametrize("order", ORDERS)
def test_as_the_slow_version(order: Order, limits: dict[str, float]) -> None:
    settings = DetectSettings(order=order, **limits)
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


@given(st.integers(0, 10**6), st.integers(1, 12), st.sampled_from([0.1, 0.3, 0.7]))
@examples(deadline=None, max_examples=25)
def test_what_is_suppressed_first_makes_room_for_the_next(seed: int, most: int, nms_iou: float) -> None:
    """Suppressing first, without regression, keeps all that cutting first keeps, and more, up to the limit."""
    svm, off = detector(seed)[0], disabled_regressor("pool5", CLASSES)
    features, boxes = image(seed + 1)
    found = {}
    for order in ORDERS:
        settings = DetectSettings(order=order, max_per_class=most, nms_iou=nms_iou)
        result = detect_image(features, boxes, svm, off, WIDTH, HEIGHT, settings).no_bbox
        found[order] = [result.boxes[result.labels == j].tolist() for j in range(3)]
    every = DetectSettings(max_per_class=len(boxes), nms_iou=nms_iou)
    whole = detect_image(features, boxes, svm, off, WIDTH, HEIGHT, every).no_bbox
    for j in range(3):
        cut, suppressed_first = (found[order][j] for order in ORDERS)
        assert suppressed_first[: len(cut)] == cut
        assert suppressed_first == whole.boxes[whole.labels == j].tolist()[:most]


def test_only_the_unusual_order_is_part_of_a_key() -> None:
    usual = {"nms_iou": 0.3, "max_per_class": 100, "score_floor": None}
    assert key_params(DetectSettings()) == usual == key_params(DetectSettings(order="cut_then_suppress"))
    assert key_params(DetectSettings(order="suppress_then_cut")) == {**usual, "order": "suppress_then_cut"}


@pytest.mark.parametrize("order", ORDERS)
def test_a_new_image_as_in_the_pipeline(order: Order, tmp_path: Path) -> None:
    """The detector of new images and the stage give the same boxes, whatever the order."""
    svm, bbox = detector(1)
    settings = DetectSettings(order=order, max_per_class=4, nms_iou=0.2)
    windows = ProposalsSettings(method="sliding_window", min_side_px=4, sliding_window={"scales_px": (12, 30)})
    record = ImageRecord(1, "a.png", WIDTH, HEIGHT, "0" * 64, "test", as_boxes([]), as_labels([]))

    def features_of(pixels: np.ndarray, boxes: np.ndarray) -> dict[str, np.ndarray]:
        turned = np.sin(boxes @ np.arange(40).reshape(4, 10) / 7).astype(np.float32)
        return {"fc7": turned[:, :6], "pool5": turned[:, 6:]}

    boxes = proposals_of(record, None, windows, 0, None)[0]["boxes"]
    arrays = {name: narrow(f, "float16", name, "a") for name, f in features_of(np.zeros(0), boxes).items()}
    arrays |= {"boxes": boxes, "is_gt": np.zeros(len(boxes), bool)}
    store = Store(tmp_path)
    key = store.put(Recipe("features", 1, {}, {}), Payload(arrays, {}, "zarr"))
    task = ImageTask(record, Recipe("detect", 1, {}, {}), {"features": key})
    cached = DetectCompute(store, ("fc7", "pool5"), svm, bbox, settings)(task).arrays
    proposals = ProposalSearch(windows, 0)
    fresh = RegionSearch(proposals, features_of, svm, bbox, settings, "float16")  # type: ignore[arg-type]
    both = fresh(np.zeros((HEIGHT, WIDTH, 3), np.uint8), record.sha256, tell_nobody)
    for prefix, found in (("bbox", both.bbox), ("no_bbox", both.no_bbox)):
        for name in ("boxes", "scores", "labels"):
            np.testing.assert_array_equal(getattr(found, name), cached[f"{prefix}.{name}"])
        assert len(found)


@pytest.mark.parametrize("order", ORDERS)
def test_classes_in_parts_are_the_same_detections(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    svm, bbox = detector(5)
    features, boxes = image(4)
    settings = DetectSettings(order=order, max_per_class=9)
    whole = detect_image(features, boxes, svm, bbox, WIDTH, HEIGHT, settings).arrays()
    monkeypatch.setattr(classifier, "_CLASSES_AT_ONCE", 2)
    parts = detect_image(features, boxes, svm, bbox, WIDTH, HEIGHT, settings).arrays()
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


@pytest.mark.parametrize("order", ORDERS)
def test_no_region_no_detection(order: Order) -> None:
    svm, bbox = detector(0)
    features = {"fc7": np.zeros((0, 6), np.float16), "pool5": np.zeros((0, 4), np.float16)}
    result = detect_image(features, np.zeros((0, 4), np.float32), svm, bbox, WIDTH, HEIGHT, DetectSettings(order=order))
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
