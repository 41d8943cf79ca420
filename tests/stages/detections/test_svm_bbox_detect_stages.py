"""The stages svm, bbox and detect one after another over a store of made-up features."""

import csv
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from stage_context import StageContext

from cache import Artifact, Payload, Recipe, Store, digest_json
from cache.errors import StageError
from manifests import Dataset, DatasetError, ImageRecord, load_dataset, save_dataset
from stages.bbox.regressor import read_box_regressor
from stages.bbox.settings import BboxSettings
from stages.boxes.geometry import class_overlaps, iou
from stages.detections.settings import DetectSettings
from stages.settings import Settings
from stages.svm.cells import spp_responses
from stages.svm.classifier import read_classifier
from stages.svm.hard_negatives import first_of_equal
from stages.svm.settings import SvmSettings

CLASSES = ("disc", "star")


def run(root: Path, stage: str, settings: Settings) -> StageContext:
    context = StageContext(root, stage, {stage: settings})
    context.run()
    return context


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Eight train and three test images: a disc and a star each, jittered proposals, background; one without any."""
    rng = np.random.default_rng(0)
    records, entries = [], []
    store = Store(tmp_path / "store")
    for i in range(1, 12):
        gt = np.array([[20, 20, 60, 70], [90, 30, 150, 60]], np.float32) + rng.integers(0, 20)
        corner = rng.uniform(0, 120, (30, 2))
        background = np.concatenate([corner, corner + rng.uniform(15, 50, (30, 2))], axis=1)
        near = np.repeat(gt, 8, axis=0) + rng.normal(0, 5, (16, 4))
        proposals = np.concatenate([near, background]).astype(np.float32).clip(0, 200)
        if i == 11:
            gt, proposals = gt[:0], proposals[:0]
        boxes = np.concatenate([gt, proposals])
        record = ImageRecord(i, f"{i}.png", 200, 200, f"{i:064x}", "train" if i < 9 else "test", gt, np.arange(len(gt)))
        overlaps = class_overlaps(boxes, gt, record.labels, 2)
        appearance = np.concatenate([2 * overlaps, rng.random((len(boxes), 4))], axis=1)
        offset = np.zeros((len(boxes), 4))
        if len(gt):
            offset = boxes - gt[overlaps.argmax(axis=1)]
        arrays = {
            "boxes": boxes,
            "is_gt": np.arange(len(boxes)) < len(gt),
            "gt_class": np.concatenate([record.labels, np.full(len(proposals), -1)]),
            "difficult": np.zeros(len(boxes), bool),
            "overlaps": overlaps,
            "fc7": appearance.astype(np.float16),
            "pool5": np.concatenate([np.maximum(offset, 0), np.maximum(-offset, 0)], axis=1).astype(np.float16),
        }
        records.append(record)
        recipe = Recipe("features", 1, {}, {"image": record.sha256})
        entries.append((i, store.put(recipe, Payload(arrays, {"image": record.file_name}, "zarr"))))
    for folder in ("manifest", "features"):
        (tmp_path / "artifacts" / folder).mkdir(parents=True)
    save_dataset(Dataset("shapes", CLASSES, tuple(records)), tmp_path / "artifacts/manifest/manifest.json")
    summary = {"network": "toy", "method": "spp", "layers": {"fc7": 6, "pool5": 8}}
    Artifact("features", 1, {}, {}, tuple(entries), summary).write(tmp_path / "artifacts/features/manifest.json")
    return tmp_path


SVM_SETTINGS = SvmSettings(C=0.1, memory_limit_mb=64)
BBOX_SETTINGS = BboxSettings(ridge_lambda=1.0)
SHARED_SETTINGS = BboxSettings(ridge_lambda=1.0, shared=True)


def run_all(root: Path, detect: DetectSettings | None = None) -> StageContext:
    run(root, "svm", SVM_SETTINGS)
    run(root, "bbox", BBOX_SETTINGS)
    return run(root, "detect", detect or DetectSettings())


def test_features_are_brought_to_the_mean_norm_asked_for(root: Path) -> None:
    scales = {}
    for norm in (20.0, 5.0):
        svm = run(root, "svm", SVM_SETTINGS.model_copy(update={"target_norm": norm}))
        bbox = run(root, "bbox", BBOX_SETTINGS.model_copy(update={"target_norm": norm}))
        models = read_classifier(svm.output("model")), read_box_regressor(bbox.output("model"))
        scales[norm] = [model.feature_scale for model in models]
    np.testing.assert_allclose(scales[5.0], np.array(scales[20.0]) / 4, rtol=1e-6)


def test_regions_learnt_from_are_within_the_overlaps_asked_for(root: Path) -> None:
    records = load_dataset(root / "artifacts/manifest/manifest.json").split("train")
    artifact = Artifact.read(root / "artifacts/features/manifest.json")
    stored = [Store(root / "store").get("features", artifact.keys[record.id]).arrays for record in records]
    for below, above in ((0.3, 0.6), (0.6, 0.4)):
        svm = run(root, "svm", SVM_SETTINGS.model_copy(update={"negative_iou": below}))
        with svm.output("mining").open() as file:
            firsts = {row["class_name"]: int(row["negatives"]) for row in csv.DictReader(file) if row["fit"] == "1"}
        counts = (stored[0]["overlaps"] < below).sum(axis=0)  # all of the first image's
        assert firsts == dict(zip(CLASSES, counts.tolist(), strict=True))
        bbox = run(root, "bbox", BBOX_SETTINGS.model_copy(update={"min_iou": above}))
        pairs = sum(int((arrays["overlaps"].max(axis=1) > above).sum()) for arrays in stored)
        assert sum(found["pairs"] for found in read_box_regressor(bbox.output("model")).summary.values()) == pairs


def test_no_two_detections_of_a_class_overlap_more_than_asked_for(root: Path) -> None:
    counts = []
    for limit in (0.3, 0.8):
        detected = run_all(root, DetectSettings(nms_iou=limit)).output("manifest")
        kept, largest = 0, 0.0
        for key in Artifact.read(detected).keys.values():
            found = Store(root / "store").get("detect", key).arrays
            for j in range(len(CLASSES)):
                boxes = found["no_bbox.boxes"][found["no_bbox.labels"] == j]
                largest = max(largest, np.triu(iou(boxes, boxes), 1).max(initial=0))
                kept += len(boxes)
        assert largest <= limit
        counts.append(kept)
    assert counts[0] < counts[1]


def test_the_chain_finds_the_objects(root: Path) -> None:
    assert run_all(root).computed == [9, 10, 11]
    store, dataset = Store(root / "store"), load_dataset(root / "artifacts/manifest/manifest.json")
    artifact = Artifact.read(root / "artifacts/detect/manifest.json")
    assert artifact.summary["thresholds"] == {"disc": None, "star": None}
    assert artifact.summary["detector"] == "toy, spp, svm on fc7, boxes by pool5"
    for record in dataset.split("test")[:2]:
        found = store.get("detect", artifact.keys[record.id]).arrays
        quality = {}
        for prefix in ("bbox", "no_bbox"):
            labels, boxes = found[f"{prefix}.labels"], found[f"{prefix}.boxes"]
            best = [boxes[labels == j][0] for j in range(2)]
            quality[prefix] = np.diag(iou(np.array(best), record.boxes))
        assert (quality["no_bbox"] > 0.5).all()
        assert quality["bbox"].sum() > quality["no_bbox"].sum()
        # ground truth takes no part at test time: nothing scored is exactly a ground-truth box
        assert not (iou(found["no_bbox.boxes"], record.boxes) == 1).any()
        assert len(found["candidates.scores"]) == 2 * 46
    empty = store.get("detect", artifact.keys[11])
    assert empty.attrs["count"] == 0 and empty.arrays["bbox.boxes"].shape == (0, 4)


def test_scale_and_mining_log(root: Path) -> None:
    run(root, "svm", SVM_SETTINGS)
    model = read_classifier(root / "artifacts/svm/model.h5")
    store = Store(root / "store")
    entries = Artifact.read(root / "artifacts/features/manifest.json").entries[:8]
    norms = [np.linalg.norm(store.get("features", key).arrays["fc7"].astype(float), axis=1) for _, key in entries]
    # at most 200 rows of 200 images: here all of them
    assert model.feature_scale == pytest.approx(20 / np.concatenate(norms).mean(), rel=1e-6)
    with (root / "artifacts/svm/mining.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["class_name"] for row in rows} == set(CLASSES)
    assert {row["image_id"] for row in rows} == {"1", "8"}
    for row in rows:
        parts = sum(float(row[k]) for k in ("regulariser", "positive_loss", "negative_loss"))
        assert float(row["objective"]) == pytest.approx(parts)


def test_models_are_the_same_bytes_again(root: Path) -> None:
    paths = [root / "artifacts" / name for name in ("svm/model.h5", "svm/mining.csv", "bbox/model.h5")]
    first = [run_all(root) and path.read_bytes() for path in paths]
    again = run_all(root)
    assert [path.read_bytes() for path in paths] == first
    assert again.computed == []


def retrained(root: Path, stage: str, settings: Settings, workers: int = 2) -> bool:
    """Whether the stage, run again, trains."""
    context = StageContext(root, stage, {stage: settings})
    context.workers = workers
    context.run()
    assert (context.tally.computed, context.tally.reused) in ((0, 1), (1, 0))
    assert any("trained before" in line for line in context.log.infos) == (context.tally.reused == 1)
    return context.tally.computed == 1


@pytest.mark.parametrize(
    ("stage", "settings", "other"),
    [
        ("svm", SVM_SETTINGS, SvmSettings(C=0.2)),
        ("bbox", BBOX_SETTINGS, BboxSettings(ridge_lambda=2.0)),
        ("bbox", BBOX_SETTINGS, SHARED_SETTINGS),
    ],
)
def test_only_what_a_model_is_trained_from_trains_it_again(
    root: Path, stage: str, settings: Settings, other: Settings
) -> None:
    first = run(root, stage, settings).output("model").read_bytes()
    manifest, features = (root / f"artifacts/{name}/manifest.json" for name in ("manifest", "features"))
    dataset, listed = load_dataset(manifest), Artifact.read(features)
    assert not retrained(root, stage, settings, workers=1)

    def put(images: Sequence[ImageRecord]) -> None:
        save_dataset(Dataset("shapes", CLASSES, tuple(images)), manifest)
        entries = [*listed.entries, (12, listed.keys[1])]
        Artifact("features", 1, {}, {}, tuple(entries), listed.summary).write(features)

    more = replace(dataset.images[0], id=12, file_name="12.png")
    put([*dataset.images, replace(more, split="test", splits=("test",))])
    assert not retrained(root, stage, settings)
    put([*dataset.images, more])
    assert retrained(root, stage, settings)
    put(dataset.images)
    assert not retrained(root, stage, settings)
    assert retrained(root, stage, other)
    assert not retrained(root, stage, settings)
    assert (root / f"artifacts/{stage}/model.h5").read_bytes() == first


def test_a_shared_regressor_has_a_key_of_its_own_and_others_keep_theirs(root: Path) -> None:
    listed = Artifact.read(root / "artifacts/features/manifest.json")
    train = [image.id for image in load_dataset(root / "artifacts/manifest/manifest.json").split("train")]
    usual = {  # what a model was named by before there was another way
        **{"enabled": True, "layer": "pool5", "ridge_lambda": 1.0, "min_iou": 0.6, "target_norm": 20.0},
        "memory_limit_mb": 2048,
    }
    inputs = {"features": digest_json([listed.keys[image_id] for image_id in train])}
    for settings, own in ((BBOX_SETTINGS, usual), (SHARED_SETTINGS, usual | {"shared": True})):
        recipe = Recipe("bbox", 4, {"seed": 0, "bbox": own, "classes": list(CLASSES)}, inputs)
        assert run(root, "bbox", settings).listed("trained").entries == ((0, recipe.key),)


def test_detections_are_moved_by_the_one_regressor(root: Path) -> None:
    run(root, "svm", SVM_SETTINGS)
    shared = read_box_regressor(run(root, "bbox", SHARED_SETTINGS).output("model"))
    np.testing.assert_array_equal(shared.weights[0], shared.weights[1])
    assert run(root, "detect", DetectSettings()).computed == [9, 10, 11]
    found = {}
    for name, settings in (("shared", SHARED_SETTINGS), ("apart", BBOX_SETTINGS)):
        run(root, "bbox", settings)
        listed = run(root, "detect", DetectSettings()).listed()
        arrays = Store(root / "store").get("detect", listed.keys[9]).arrays
        found[name] = arrays["candidates.bbox"], arrays["candidates.no_bbox"]
    np.testing.assert_array_equal(found["shared"][1], found["apart"][1])
    assert np.abs(found["shared"][0] - found["apart"][0]).max() > 0.01


@pytest.mark.parametrize(("stage", "settings"), [("svm", SVM_SETTINGS), ("bbox", BBOX_SETTINGS)])
def test_a_model_that_the_store_has_needs_no_features(root: Path, stage: str, settings: Settings) -> None:
    first = run(root, stage, settings)
    model = first.output("model").read_bytes()
    assert first.tally.computed == 1
    shutil.rmtree(root / "store/objects/features")
    first.output("model").unlink()
    again = run(root, stage, settings)
    assert again.output("model").read_bytes() == model
    assert (again.computed, again.tally.computed) == ([], 0)


def test_what_a_detection_depends_on(root: Path) -> None:
    run_all(root)
    low = run(root, "detect", DetectSettings(rank_factor=1))
    assert low.computed == []
    assert len(low.log.warnings) == 2 and all("detect.rank_factor = 1 " in line for line in low.log.warnings)
    summary = Artifact.read(root / "artifacts/detect/manifest.json").summary
    assert all(isinstance(t, float) for t in summary["thresholds"].values())
    assert run(root, "detect", DetectSettings(nms_iou=0.5)).computed == [9, 10, 11]
    run(root, "bbox", BboxSettings(enabled=False))
    assert run(root, "detect", DetectSettings()).computed == [9, 10, 11]
    artifact = Artifact.read(root / "artifacts/detect/manifest.json")
    assert artifact.summary["detector"] == "toy, spp, svm on fc7, boxes as proposed"
    found = Store(root / "store").get("detect", artifact.keys[9])
    assert found.attrs["regressed"] is False
    np.testing.assert_array_equal(found.arrays["bbox.boxes"], found.arrays["no_bbox.boxes"])


def in_parts(root: Path, names: dict[int, str]) -> None:
    """Put training images into parts of the train split, as ``manifest.train`` does where it lists several splits."""
    path = root / "artifacts/manifest/manifest.json"
    dataset = load_dataset(path)
    parts = {one.id: (one.split, f"train/{names[one.id]}") for one in dataset.images if one.id in names}
    images = tuple(replace(one, splits=parts.get(one.id, one.splits)) for one in dataset.images)
    save_dataset(replace(dataset, images=images), path)


def test_each_task_trains_on_the_images_of_its_splits(root: Path) -> None:
    """The models are those that these images alone give, to the byte, and under their key."""
    made = [(name, output) for name, output in (("svm", "model"), ("svm", "mining"), ("bbox", "model"))]

    def trained(images: tuple[str, ...] | str | None) -> tuple[list[bytes], list[str]]:
        ran = {
            "svm": run(root, "svm", SVM_SETTINGS.model_copy(update={"images": images})),
            "bbox": run(root, "bbox", BBOX_SETTINGS.model_copy(update={"images": images})),
        }
        keys = [key for context in ran.values() for _, key in context.listed("trained").entries]
        return [ran[name].output(output).read_bytes() for name, output in made], keys

    of_all = trained(None)
    in_parts(root, {i: "a" if i % 3 else "b" for i in range(1, 9)})
    assert trained(None) == trained(("b", "a")) == of_all
    of_a = trained("a")
    assert of_a[0][0] != of_all[0][0] and of_a[0][2] != of_all[0][2] and not set(of_a[1]) & set(of_all[1])
    dataset = load_dataset(root / "artifacts/manifest/manifest.json")
    left = tuple(one for one in dataset.images if "train/a" in one.splits or one.split == "test")
    save_dataset(replace(dataset, images=left), root / "artifacts/manifest/manifest.json")
    assert trained(None) == of_a
    with pytest.raises(DatasetError, match="there is no split 'train/b'"):
        run(root, "svm", SVM_SETTINGS.model_copy(update={"images": "b"}))


def test_regions_near_an_object_are_positives_where_asked_for(root: Path) -> None:
    records = load_dataset(root / "artifacts/manifest/manifest.json").split("train")
    artifact = Artifact.read(root / "artifacts/features/manifest.json")
    stored = [Store(root / "store").get("features", artifact.keys[record.id]).arrays for record in records]
    svm = run(root, "svm", SVM_SETTINGS.model_copy(update={"positive_iou": 0.5, "negative_iou": 0.0}))
    with svm.output("mining").open() as file:
        rows = {row["class_name"]: row for row in csv.DictReader(file) if row["fit"] == "1"}
    for j, name in enumerate(CLASSES):
        near = [(a["overlaps"].argmax(axis=1) == j) & (a["overlaps"].max(axis=1) >= 0.5) for a in stored]
        assert int(rows[name]["positives"]) == sum(int(one.sum()) for one in near) > len(records)
        assert int(rows[name]["negatives"]) == int((stored[0]["overlaps"][:, j] == 0).sum())


def test_regions_of_equal_cells_are_dropped_where_asked(root: Path) -> None:
    path = root / "artifacts/features/manifest.json"
    artifact = Artifact.read(path)
    summary = {**artifact.summary, "network": "zf5", "scales_px": [480, 688], "target_side_px": 224}
    replace(artifact, summary=summary).write(path)
    record = load_dataset(root / "artifacts/manifest/manifest.json").split("train")[0]
    arrays = Store(root / "store").get("features", artifact.keys[record.id]).arrays
    svm = run(root, "svm", SVM_SETTINGS.model_copy(update={"drop_equal": True}))
    with svm.output("mining").open() as file:
        firsts = {row["class_name"]: int(row["negatives"]) for row in csv.DictReader(file) if row["fit"] == "1"}
    image = SimpleNamespace(boxes=arrays["boxes"], image_id=record.id)
    unique = first_of_equal(spp_responses(summary, {record.id: 200})(image))
    expected = ((arrays["overlaps"] < 0.3) & unique[:, None]).sum(axis=0)
    assert firsts == dict(zip(CLASSES, expected.tolist(), strict=True))


def test_softmax_takes_the_networks_last_layer(root: Path) -> None:
    import torch

    from stages.networks.network import build
    from stages.networks.weights import save_weights

    (root / "artifacts/finetune").mkdir()
    network = build("small", 3, generator=torch.Generator().manual_seed(0)).eval()
    save_weights(root / "artifacts/finetune/weights.safetensors", network)
    run(root, "svm", SvmSettings(classifier="softmax"))
    assert read_classifier(root / "artifacts/svm/model.h5").kind == "softmax"
    run(root, "bbox", BBOX_SETTINGS)
    with pytest.raises(StageError, match=r"svm/model.h5: trained on fc7 of length \d+, and the stored .* has 6"):
        run(root, "detect", DetectSettings())
    with (root / "artifacts/svm/mining.csv").open() as file:
        assert list(csv.DictReader(file)) == []


def test_bad_input_is_said(root: Path) -> None:
    with pytest.raises(StageError, match="layer 'fc9' is not among the stored features"):
        run(root, "svm", SvmSettings(layer="fc9"))
    run_all(root)
    manifest = root / "artifacts/manifest/manifest.json"
    dataset = load_dataset(manifest)
    save_dataset(Dataset("shapes", ("disc", "moon"), dataset.images), manifest)
    with pytest.raises(StageError, match="trained for classes disc, star, and the dataset has disc, moon"):
        run(root, "detect", DetectSettings())


def test_a_disabled_regressor_reads_no_features(root: Path) -> None:
    (root / "artifacts/features/manifest.json").unlink()
    run(root, "bbox", BboxSettings(enabled=False))
    assert not read_box_regressor(root / "artifacts/bbox/model.h5").enabled


def in_part(root: Path, ids: Sequence[int]) -> Dataset:
    """Say of some images that they are annotated in part; returns the dataset."""
    path = root / "artifacts/manifest/manifest.json"
    data = load_dataset(path)
    images = tuple(replace(image, exhaustive=image.id not in ids) for image in data.images)
    save_dataset(replace(data, images=images), path)
    return load_dataset(path)


def only_objects(root: Path, ids: Sequence[int]) -> None:
    """Cut images' features to their objects' rows, as they are where nothing was proposed."""
    store, path = Store(root / "store"), root / "artifacts/features/manifest.json"
    listed = Artifact.read(path)
    entries = []
    for image_id, key in listed.entries:
        if image_id not in ids:
            entries.append((image_id, key))
            continue
        found = store.get("features", key)
        rows = {name: array[found.arrays["is_gt"]] for name, array in found.arrays.items()}
        recipe = Recipe("features", 1, {}, {"cut": image_id})
        entries.append((image_id, store.put(recipe, Payload(rows, found.attrs, "zarr"))))
    replace(listed, entries=tuple(entries)).write(path)


def test_images_annotated_in_part_give_positives_alone(root: Path) -> None:
    in_part(root, (2, 5))
    svm = run(root, "svm", SVM_SETTINGS)
    with svm.output("mining").open() as file:
        rows = list(csv.DictReader(file))
    assert {int(row["image_id"]) for row in rows} <= {1, 3, 4, 6, 7, 8}
    assert {row["positives"] for row in rows} == {"8"}  # one in each of the eight images
    assert max(int(row["images_seen"]) for row in rows) == 6
    whole = read_classifier(svm.output("model"))
    only_objects(root, (2, 5))  # their proposals were not looked at, but for the mean norm
    cut = read_classifier(run(root, "svm", SVM_SETTINGS).output("model"))
    assert cut.feature_scale != whole.feature_scale and cut.weights.shape == whole.weights.shape
    bbox = run(root, "bbox", BBOX_SETTINGS)
    pairs = sum(found["pairs"] for found in read_box_regressor(bbox.output("model")).summary.values())
    store, listed = Store(root / "store"), Artifact.read(root / "artifacts/features/manifest.json")
    arrays = [store.get("features", listed.keys[i]).arrays for i in (1, 3, 4, 6, 7, 8)]
    assert pairs == sum(int((one["overlaps"].max(axis=1) > BBOX_SETTINGS.min_iou).sum()) for one in arrays)


def test_keys_are_as_before_where_all_is_annotated(root: Path) -> None:
    listed = Artifact.read(root / "artifacts/features/manifest.json")
    train = [image.id for image in load_dataset(root / "artifacts/manifest/manifest.json").split("train")]
    inputs = {"features": digest_json([listed.keys[image_id] for image_id in train])}
    own = SVM_SETTINGS.model_dump(mode="json", exclude={"images", "mine_images"})
    plain = Recipe("svm", 5, {"seed": 0, "svm": own, "classes": list(CLASSES)}, inputs)
    for most, is_plain in ((None, True), (8, True), (100, True), (3, False)):
        found = run(root, "svm", SVM_SETTINGS.model_copy(update={"mine_images": most}))
        assert (found.listed("trained").entries == ((0, plain.key),)) == is_plain


def test_so_many_images_are_mined_as_asked_for(root: Path) -> None:
    seen = set()
    for seed in range(4):
        context = StageContext(root, "svm", {"svm": SVM_SETTINGS.model_copy(update={"mine_images": 3})}, seed)
        context.run()
        with context.output("mining").open() as file:
            rows = list(csv.DictReader(file))
        assert max(int(row["images_seen"]) for row in rows) == 3
        assert {row["positives"] for row in rows} == {"8"}
        seen.add(frozenset(row["image_id"] for row in rows))
    assert len(seen) > 1


def test_nothing_but_images_annotated_in_part(root: Path) -> None:
    in_part(root, range(1, 9))
    with pytest.raises(StageError, match="svm: all 8 training images are annotated in part"):
        run(root, "svm", SVM_SETTINGS)
    with pytest.raises(StageError, match="bbox: all 8 training images are annotated in part"):
        run(root, "bbox", BBOX_SETTINGS)
