"""The stages slide, merge and localisation in a project of nine pictures, and the detector that they make."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from stage_context import StageContext
from window_detectors import CLASSES, edge_regressor, picture, window_classifier

from cache import Store
from cache.errors import StageError
from manifests import Dataset, ImageRecord, save_dataset
from stages.boxes.geometry import iou
from stages.dense.maps import DenseMapPass
from stages.detections.suppression import BoxSet
from stages.detector import Detector
from stages.networks.weights import save_weights
from stages.overfeat.choice import STEPS
from stages.overfeat.classifier import save_classifier
from stages.overfeat.combining import combined, entering, suppressed_windows
from stages.overfeat.localisation import LocalisationErrors, merged_guesses, target_of
from stages.overfeat.regressor import save_regressor
from stages.overfeat.scorer import WindowScorer
from stages.overfeat.settings import (
    DenseMapsSettings,
    FinetuneDenseSettings,
    LocalisationSettings,
    MergeSettings,
    SlideSettings,
)
from stages.overfeat.windows import ScoredWindows
from stages.settings import Settings
from stages.training.held_out import held_out

KIND = "overfeat"
SCALES = (80, 104, 136)
SIZES = ((100, 80), (70, 90), (64, 64))
N_TRAIN, N_TEST = 5, 4


def record_of(image_id: int) -> ImageRecord:
    """Two objects: of one class in images of an even number."""
    width, height = SIZES[image_id % 3]
    boxes = np.array([[2, 3, 50, 55], [10, 8, 60, 62]], np.float32)
    labels = np.array([image_id % 4, image_id % 4 if image_id % 2 == 0 else (image_id + 1) % 4])
    split = "train" if image_id <= N_TRAIN else "test"
    return ImageRecord(image_id, f"{image_id}.png", width, height, f"{image_id:064x}", split, boxes, labels)


RECORDS = [record_of(i + 1) for i in range(N_TRAIN + N_TEST)]
TEST = [record for record in RECORDS if record.split == "test"]
ASIDE = held_out([record for record in RECORDS if record.split == "train"], 0.4, 0)


def pixels_of(record: ImageRecord) -> NDArray[np.uint8]:
    return picture(record.width, record.height, record.id)


def groups() -> dict[str, Settings]:
    return {
        "maps": DenseMapsSettings(scales_px=SCALES),
        "finetune_dense": FinetuneDenseSettings(held_out_fraction=0.4, mirror=False),
        "slide": SlideSettings(),
        "merge": MergeSettings(t=0.4, score_floor=0.2),
        "localisation": LocalisationSettings(guesses=2, first_scales=(1, 2, 5)),
    }


def context_of(root: Path, node: str, **changed: Any) -> StageContext:
    """A node's context; ``group={...}`` changes some of a group's parameters."""
    context = StageContext(root, node, groups(), kind=KIND)
    for group, values in changed.items():
        context.update(group, **values)
    return context


def run(root: Path, node: str, **changed: Any) -> StageContext:
    context = context_of(root, node, **changed)
    context.run()
    return context


def put_models(root: Path, *, seed: int = 0, per_class: bool = False, regressor_seed: int = 5) -> None:
    """Write what pretrain, finetune_dense and regress would."""
    slide = context_of(root, "slide")
    classifier = window_classifier(seed)
    save_weights(context_of(root, "maps").place("weights"), classifier.network)
    save_classifier(slide.place("weights"), classifier)
    save_regressor(slide.place("regressor"), edge_regressor(classifier, regressor_seed, per_class=per_class))


def put_maps(root: Path) -> None:
    maps = context_of(root, "maps")
    maps.image = pixels_of
    maps.run()


@pytest.fixture(scope="module")
def up_to_maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = tmp_path_factory.mktemp("project")
    save_dataset(Dataset("toy", CLASSES, tuple(RECORDS)), context_of(project, "maps").place("manifest"))
    put_models(project)
    put_maps(project)
    return project


@pytest.fixture
def root(up_to_maps: Path, tmp_path: Path) -> Path:
    """A project up to the maps, of this test alone."""
    return Path(shutil.copytree(up_to_maps, tmp_path / "project"))


def stored(root: Path, context: StageContext, image_id: int) -> dict[str, Any]:
    listed = context.listed()
    return dict(Store(root / "store").get(listed.stage, listed.keys[image_id]).arrays)


def windows_by_hand(record: ImageRecord, *, per_class: bool = False, k: int | None = None) -> ScoredWindows:
    """The windows of a picture, from its pixels."""
    classifier = window_classifier()
    run_maps = DenseMapPass(classifier.network, "float16", "cpu")
    maps = {scale: run_maps(pixels_of(record), scale, record.file_name) for scale in SCALES}
    scorer = WindowScorer(classifier, edge_regressor(classifier, per_class=per_class), SlideSettings(), k, "cpu")
    return scorer(maps, record.width, record.height, record.file_name)


def test_slide_scores_test_images_and_those_held_out(root: Path) -> None:
    slide = run(root, "slide")
    wanted = [record.id for record in RECORDS if record.split == "test" or record.id in ASIDE]
    assert len(ASIDE) == 2 and list(slide.listed().keys) == slide.computed == wanted
    for record in (TEST[0], TEST[1], next(one for one in RECORDS if one.id in ASIDE)):
        found, by_hand = stored(root, slide, record.id), windows_by_hand(record).arrays()
        assert found.keys() == by_hand.keys()
        for name, values in by_hand.items():
            np.testing.assert_array_equal(found[name], values)
            assert found[name].dtype == values.dtype
    assert run(root, "slide").computed == []


def test_what_merges_and_how_many_scales_count_computes_no_window(root: Path) -> None:
    run(root, "slide")
    assert run(root, "slide", merge={"t": 0.7, "k": 3}).computed == []
    assert len(run(root, "slide", slide={"stride": "coarse"}).computed) == N_TEST + 2
    more = run(root, "slide", finetune_dense={"held_out_fraction": 0.8})  # two more of the training images
    assert len(more.computed) == 2 and len(more.listed().keys) == N_TEST + 4
    put_models(root, regressor_seed=8)
    assert len(run(root, "slide").computed) == N_TEST + 2


def test_regressors_by_class_are_asked_as_merge_wants(root: Path) -> None:
    put_models(root, per_class=True)
    every = run(root, "slide")
    assert stored(root, every, TEST[0].id)["edges"].shape[1] == len(CLASSES)
    two = run(root, "slide", merge={"k": 2})
    assert len(two.computed) == N_TEST + 2
    by_hand = windows_by_hand(TEST[0], per_class=True, k=2)
    np.testing.assert_array_equal(stored(root, two, TEST[0].id)["edges"], by_hand.edges)
    with pytest.raises(
        StageError, match=r"slide/manifest.json: has boxes of the best 2 classes .* merge.k is None; run"
    ):
        run(root, "merge")
    assert len(run(root, "merge", merge={"k": 2}).computed) == N_TEST


def other_weights(root: Path) -> None:
    put_models(root, seed=70)


def other_regressor(root: Path) -> None:
    save_regressor(context_of(root, "slide").place("regressor"), edge_regressor(window_classifier(70)))


def other_classes(root: Path) -> None:
    save_dataset(
        Dataset("toy", (*CLASSES[1:], CLASSES[0]), tuple(RECORDS)), context_of(root, "slide").place("manifest")
    )


def other_images(root: Path) -> None:
    save_dataset(Dataset("toy", CLASSES, tuple(RECORDS[1:])), context_of(root, "slide").place("manifest"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (other_weights, r"maps/manifest.json: maps of another weights_digest than the weights'"),
        (other_regressor, r"regress/weights.safetensors: trained on maps of other weights"),
        (
            other_classes,
            r"finetune_dense/weights.safetensors: made for classes ant, bee, cow, dog, and the dataset has bee",
        ),
        (other_images, r"maps/manifest.json: made of another dataset or of other images"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(root: Path, change: Callable[[Path], None], told: str) -> None:
    change(root)
    with pytest.raises(StageError, match=told) as caught:
        run(root, "slide")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ["merge", "nms"])
def test_merge_keeps_what_the_windows_combine_to(root: Path, method: str) -> None:
    run(root, "slide")
    merge = run(root, "merge", merge={"method": method})
    settings = MergeSettings.model_validate({"method": method, "t": 0.4, "score_floor": 0.2})
    assert list(merge.listed().keys) == merge.computed == [record.id for record in TEST]  # test images alone
    for record in TEST:
        one = entering(windows_by_hand(record), settings, record.width, record.height)
        both = combined(one, settings)
        windows = suppressed_windows(one, 0.3)
        found = stored(root, merge, record.id)
        wanted = {**both.candidates.arrays(), **both.members()}
        for prefix, boxes in (("bbox", both.bbox), ("no_bbox", windows)):
            wanted |= {f"{prefix}.{name}": getattr(boxes, name) for name in ("boxes", "scores", "labels")}
        assert found.keys() == wanted.keys() and len(both.bbox) > 0
        for name, values in wanted.items():
            np.testing.assert_array_equal(found[name], values)
    summary = dict(merge.listed().summary)
    t = 0.4 if method == "merge" else None
    rule = "merged up to 0.4" if method == "merge" else "suppressed"
    assert summary == {
        "detector": f"small, OverFeat, boxes {rule}",
        "thresholds": dict.fromkeys(CLASSES),
        "classifier": "softmax",
        "regressed": True,
        "classes": list(CLASSES),
        "images": [record.sha256 for record in TEST],
        "rank_factor": None,
        "t": t,
        "t_found": None,
        "dataset": "toy",
    }


def test_only_what_matters_names_a_merged_object(root: Path) -> None:
    run(root, "slide")
    assert len(run(root, "merge").computed) == N_TEST and run(root, "merge").computed == []
    for change in ({"t": 0.5}, {"then_nms": 0.5}, {"max_windows": 7}, {"nms_iou": 0.2}, {"method": "nms"}):
        assert len(run(root, "merge", merge=change).computed) == N_TEST
    assert run(root, "merge", merge={"method": "nms", "t": 0.9, "then_nms": 0.1}).computed == []  # neither is used


def test_t_is_the_best_on_the_training_images_held_out(root: Path) -> None:
    run(root, "slide")
    merge = run(root, "merge", merge={"t": None})
    records = [record for record in RECORDS if record.id in ASIDE]
    windows = [windows_by_hand(record) for record in records]
    found = {t: mean_ap_by_hand(records, windows, MergeSettings(t=t, score_floor=0.2)) for t in STEPS}
    summary = merge.listed().summary
    assert [float(t) for t in summary["t_found"]] == list(STEPS) == [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert summary["t_found"] == pytest.approx({f"{t:g}": score for t, score in found.items()})
    best = max(found.values())
    assert summary["t"] == min(t for t, score in found.items() if score == pytest.approx(best)) and best > 0
    assert len(set(found.values())) > 1
    (told,) = merge.log.infos
    assert told.startswith("mAP of the 2 training images held out, by t: 0.2: ")
    assert run(root, "merge", merge={"t": summary["t"]}).computed == []  # the same t, given


def mean_ap_by_hand(records: list[ImageRecord], windows: list[ScoredWindows], settings: MergeSettings) -> float:
    """VOC 2010's AP, detection by detection, with every object found at most once."""
    scores: list[float] = []
    for label in sorted({int(one) for record in records for one in record.labels}):
        ranked = []
        for at, (record, own) in enumerate(zip(records, windows, strict=True)):
            bbox = combined(entering(own, settings, record.width, record.height), settings).bbox
            ranked += [
                (float(s), at, box)
                for box, s, c in zip(bbox.boxes, bbox.scores, bbox.labels, strict=True)
                if c == label
            ]
        ranked.sort(key=lambda one: -one[0])
        taken: set[tuple[int, int]] = set()
        hits: list[bool] = []
        for _, at, box in ranked:
            own_class = np.flatnonzero(records[at].labels == label)
            overlaps = iou(box, records[at].boxes[own_class])[0] if len(own_class) else np.zeros(1)
            place = (at, int(overlaps.argmax()))
            hits.append(bool(overlaps.max() >= 0.5) and place not in taken)
            taken |= {place} if hits[-1] else set()
        n = sum(int((record.labels == label).sum()) for record in records)
        precision = [sum(hits[: k + 1]) / (k + 1) for k in range(len(hits))]
        scores.append(sum(max(precision[k:]) for k, hit in enumerate(hits) if hit) / n)
    return sum(scores) / len(scores)


def test_t_cannot_be_found_without_objects_held_out(root: Path) -> None:
    for fraction, count in ((0.0, 0), (0.4, 2)):
        if fraction:
            empty = [ImageRecord(r.id, r.file_name, r.width, r.height, r.sha256, r.split, [], []) for r in RECORDS]  # type: ignore[arg-type]
            images = tuple(new if new.id in ASIDE else old for new, old in zip(empty, RECORDS, strict=True))
            save_dataset(Dataset("toy", CLASSES, images), context_of(root, "slide").place("manifest"))
            put_maps(root)
        run(root, "slide", finetune_dense={"held_out_fraction": fraction})
        with pytest.raises(
            StageError, match=rf"^merge.t: null .* the {count} of them show no object to find; set merge.t"
        ):
            run(root, "merge", merge={"t": None})
        run(root, "merge")


def test_localisation_reports_each_way_to_guess(root: Path) -> None:
    run(root, "slide")
    run(root, "merge")
    localisation = run(root, "localisation")
    report = json.loads(localisation.output("report").read_text())
    names = ["centre_window", "centre_regressed", "merged_1", "merged_2", "merged_5", "merged"]
    assert set(report) == {"iou", "guesses", "k", "classes", *names} and report["k"] == 5
    assert report["merged_5"] == report["merged"]  # there are three scales
    for name in names:
        assert report[name]["images"] == sum(len(set(record.labels.tolist())) == 1 for record in TEST) == 2
        assert report[name]["topn_error"] <= report[name]["top1_error"]
    assert len(localisation.log.infos) == len(names)
    # There are fewer classes than k, so that the boxes are those of stage merge.
    errors, listed = LocalisationErrors(0.5), localisation.artifact("merge")
    for record in TEST:
        if (target := target_of(record)) is not None:
            boxes = localisation.store.get(listed.stage, listed.keys[record.id]).arrays
            errors.add(
                merged_guesses(BoxSet(*(boxes[f"bbox.{name}"] for name in ("boxes", "scores", "labels")))), target
            )
    assert errors.rates(2, len(CLASSES)) == report["merged"]
    nms = run(root, "merge", merge={"method": "nms"})
    assert nms.computed and run(root, "localisation", merge={"method": "nms"}).log.warnings == []


def test_localisation_of_images_of_several_classes_has_no_error(root: Path) -> None:
    several = [record for record in RECORDS if record.split == "train" or record.id % 2 == 1]
    save_dataset(Dataset("toy", CLASSES, tuple(several)), context_of(root, "slide").place("manifest"))
    put_maps(root)
    for node in ("slide", "merge"):
        run(root, node)
    localisation = run(root, "localisation")
    report = json.loads(localisation.output("report").read_text())
    assert report["merged"] == {
        "images": 0,
        "top1_error": None,
        "topn_error": None,
        "class_error": None,
        "class_topn_error": None,
    }
    assert localisation.log.warnings == [
        "no test image shows objects of one class alone, so there is no localisation error"
    ]


@pytest.mark.parametrize("t", [None, 0.5])
def test_a_new_image_finds_what_the_pipeline_found(root: Path, t: float | None) -> None:
    run(root, "slide")
    merge = run(root, "merge", merge={"t": t})
    folder = root / "detectors" / KIND
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump({"kind": KIND}))
    detector = Detector.load(root, name=KIND, device="cpu")
    for record in TEST:
        wanted = stored(root, merge, record.id)
        for prefix, regressed in (("bbox", True), ("no_bbox", False)):
            found = detector(pixels_of(record), min_score=0.0, box_regression=regressed)
            order = np.argsort(-wanted[f"{prefix}.scores"], kind="stable")
            assert [one.score for one in found] == wanted[f"{prefix}.scores"][order].tolist()
            assert [list(one.box) for one in found] == wanted[f"{prefix}.boxes"][order].tolist()
            assert [CLASSES.index(one.label) for one in found] == wanted[f"{prefix}.labels"][order].tolist()
    assert detector.pixels_searched(500, 375) == 0
    assert detector.bytes_needed(500, 375) > detector.bytes_needed(250, 375) > 0
