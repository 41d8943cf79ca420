"""Stage ``detect``: every test image's detections, with and without box regression (paper section 2.2).

Reads the test split's features and both models; writes one HDF5 object per image and the manifest
``artifacts/detect/manifest.json``, whose summary says which detector made them and the score that each class must
reach over the whole split, and holds what the stage ``combine`` compares with other detectors'. Cost: reading the
features, and some ms per image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cache import Artifact, Payload, Recipe, Store, digest_file
from cache.errors import StageError
from manifests import ImageRecord
from stages.bbox.regressor import BoxRegressor, read_box_regressor
from stages.boxes.geometry import BOX_CONVENTION
from stages.contract import Compute, Context, ImageTask, image_attrs
from stages.features.featureset import FeatureSet
from stages.svm.classifier import Classifier, read_classifier

from .candidates import candidates_of, layers_needed
from .settings import DetectSettings
from .suppression import Candidates, suppressed
from .thresholds import crowded_classes, stored_thresholds


@dataclass(frozen=True)
class DetectCompute(Compute):
    """One image's features to its detections."""

    store: Store
    layers: tuple[str, ...]
    svm: Classifier
    bbox: BoxRegressor
    settings: DetectSettings

    def __call__(self, task: ImageTask) -> Payload:
        """The image's detections."""
        ((stage, key),) = task.reads.items()
        arrays = self.store.get(stage, key, ["boxes", "is_gt", *self.layers]).arrays
        proposals = ~arrays["is_gt"]
        rows = {layer: arrays[layer][proposals] for layer in self.layers}
        boxes, record = arrays["boxes"][proposals], task.image
        found = candidates_of(rows, boxes, self.svm, self.bbox, record.width, record.height, self.settings)
        return _payload(record, found, self.settings.nms_iou, self.svm, self.bbox)


def run(ctx: Context) -> None:
    """Detect on the images that the store lacks, then find the thresholds over all of them."""
    settings = ctx.settings(DetectSettings)
    dataset, artifact = ctx.dataset(), ctx.artifact("features")
    svm, bbox = read_classifier(ctx.input("svm")), read_box_regressor(ctx.input("bbox"))
    _check_classes(ctx, svm, bbox, dataset.classes)
    for line in crowded_classes(dataset.split("train"), dataset.classes, settings):
        ctx.log.warning(line)
    layers = layers_needed(svm, bbox)
    images = dataset.split("test")
    features = FeatureSet(ctx.store, artifact)
    for layer in layers:  # names a layer or image that was not stored, and what to do
        features.layer(layer, [image.id for image in images])
    _check_lengths(ctx, svm, bbox, features.dims)

    tasks = _tasks(ctx, images, artifact, settings)
    keys = ctx.compute_images(tasks, DetectCompute(ctx.store, layers, svm, bbox, settings), unit="detections")
    summary = {
        "detector": _detector(artifact.summary, svm, bbox),
        "thresholds": stored_thresholds(
            ctx.store, [(ctx.node.stage.name, keys)], dataset.classes, settings.rank_factor
        ),
        "classifier": svm.kind,
        "regressed": bbox.enabled,
        "classes": list(dataset.classes),
        "images": [record.sha256 for record in images],
        "rank_factor": settings.rank_factor,
    }
    ctx.publish("manifest", [(record.id, key) for record, key in zip(images, keys, strict=True)], summary)


def key_params(settings: DetectSettings) -> dict[str, Any]:
    """Return the parameters that an image's object depends on: not the dataset-wide rule, ``order`` unless usual."""
    params = settings.model_dump(mode="json", exclude={"rank_factor"})
    if settings.order == DetectSettings().order:  # as objects were named before there was another
        del params["order"]
    return params


def _tasks(
    ctx: Context, images: Sequence[ImageRecord], features: Artifact, settings: DetectSettings
) -> list[ImageTask]:
    """One task per image; ``features`` lists the images' features."""
    params = key_params(settings)
    models = {"svm": digest_file(ctx.input("svm")), "bbox": digest_file(ctx.input("bbox"))}
    tasks = []
    for record in images:
        # an object's clipping depends on the image's extent, which the features' key holds through its bytes
        key = features.keys[record.id]
        recipe = Recipe(ctx.node.stage.name, ctx.node.version, params, {"features": key, **models})
        tasks.append(ImageTask(record, recipe, {features.stage: key}))
    return tasks


def _detector(features: Mapping[str, Any], svm: Classifier, bbox: BoxRegressor) -> str:
    """What detector this is, for people who have saved several: ``squeezenet1_0, spp, svm on fc7, boxes by pool5``."""
    boxes = f"boxes by {bbox.layer}" if bbox.enabled else "boxes as proposed"
    made_by = [str(features.get("network", "other features")), str(features.get("method", "warp"))]
    return ", ".join([*made_by, f"{svm.kind} on {svm.layer}", boxes])


def _check_classes(ctx: Context, svm: Classifier, bbox: BoxRegressor, classes: tuple[str, ...]) -> None:
    for name, model in (("svm", svm), ("bbox", bbox)):
        if model.classes != classes:
            raise StageError(
                f"{ctx.shown(name)}: trained for classes {', '.join(model.classes)}, and the dataset has "
                f"{', '.join(classes)}; run `dvc repro`"
            )


def _check_lengths(ctx: Context, svm: Classifier, bbox: BoxRegressor, dims: dict[str, int]) -> None:
    lengths = {"svm": (svm.layer, svm.weights.shape[1])}
    if bbox.enabled:
        lengths["bbox"] = (bbox.layer, bbox.weights.shape[1] - 1)
    for name, (layer, length) in lengths.items():
        if length != dims[layer]:
            raise StageError(
                f"{ctx.shown(name)}: trained on {layer} of length {length}, and the stored features' {layer} "
                f"has {dims[layer]}; run `dvc repro`"
            )


def _payload(record: ImageRecord, found: Candidates, nms_iou: float, svm: Classifier, bbox: BoxRegressor) -> Payload:

    kept = suppressed(found, nms_iou)
    attrs: dict[str, Any] = {
        **image_attrs(record, len(kept.bbox)),
        "box_convention": BOX_CONVENTION,
        "classes": list(svm.classes),
        "classifier": svm.kind,
        "layers": [svm.layer, bbox.layer],
        "regressed": bbox.enabled,
    }
    return Payload({**kept.arrays(), **found.arrays()}, attrs, "hdf5")
