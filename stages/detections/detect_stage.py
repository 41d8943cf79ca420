"""Stage ``detect``: every test image's detections, with and without box regression (paper section 2.2).

Reads the test split's features and both models; writes one HDF5 object per image and the manifest
``artifacts/detect/manifest.json``, whose summary says which detector made them and the score that each class must
reach over the whole split, and holds what the stage ``combine`` compares with other detectors'. Cost: reading the
features, and some ms per image.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cache.errors import StageError
from stages.boxes.geometry import BOX_CONVENTION
from stages.contract import Compute, Context, ImageTask, Stage

from .settings import DetectSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cache import Payload, Store
    from manifests import ImageRecord
    from stages.bbox.regressor import BoxRegressor
    from stages.svm.classifier import Classifier

    from .suppression import Candidates

VERSION = 5


@dataclass(frozen=True)
class DetectCompute(Compute):
    """One image's features to its detections."""

    store: "Store"
    layers: tuple[str, ...]
    svm: "Classifier"
    bbox: "BoxRegressor"
    settings: DetectSettings

    def __call__(self, task: ImageTask) -> "Payload":
        """The image's detections."""
        from .candidates import candidates_of

        arrays = self.store.get("features", task.reads["features"], ["boxes", "is_gt", *self.layers]).arrays
        proposals = ~arrays["is_gt"]
        rows = {layer: arrays[layer][proposals] for layer in self.layers}
        boxes, record = arrays["boxes"][proposals], task.image
        found = candidates_of(rows, boxes, self.svm, self.bbox, record.width, record.height, self.settings)
        return _payload(record, found, self.settings.nms_iou, self.svm, self.bbox)


def run(ctx: Context) -> None:
    """Detect on the images that the store lacks, then find the thresholds over all of them."""
    from stages.bbox.regressor import read_box_regressor
    from stages.features.featureset import FeatureSet
    from stages.svm.classifier import read_classifier

    from .candidates import layers_needed
    from .thresholds import crowded_classes, stored_thresholds

    settings: DetectSettings = ctx.settings("detect")
    dataset, artifact = ctx.dataset(), ctx.artifact("features")
    svm, bbox = read_classifier(ctx.input("svm")), read_box_regressor(ctx.input("bbox"))
    _check_classes(svm, bbox, dataset.classes)
    for line in crowded_classes(dataset.split("train"), dataset.classes, settings):
        ctx.log.warning(line)
    layers = layers_needed(svm, bbox)
    images = dataset.split("test")
    features = FeatureSet(ctx.store, artifact)
    for layer in layers:  # names a layer or image that was not stored, and what to do
        features.layer(layer, [image.id for image in images])
    _check_lengths(svm, bbox, features.dims)

    tasks = _tasks(ctx, images, artifact.keys, settings)
    keys = ctx.compute_images(tasks, DetectCompute(ctx.store, layers, svm, bbox, settings), unit="detections")
    summary = {
        "detector": _detector(artifact.summary, svm, bbox),
        "thresholds": stored_thresholds(ctx.store, [keys], dataset.classes, settings.rank_factor),
        "classifier": svm.kind,
        "regressed": bbox.enabled,
        "classes": list(dataset.classes),
        "images": [record.sha256 for record in images],
        "rank_factor": settings.rank_factor,
    }
    ctx.publish("manifest", [(record.id, key) for record, key in zip(images, keys, strict=True)], summary)


def _tasks(
    ctx: Context, images: "Sequence[ImageRecord]", features: "Mapping[int, str]", settings: DetectSettings
) -> list[ImageTask]:
    """One task per image; ``features`` are the keys of the images' features."""
    from cache import Recipe, digest_file

    # the dataset-wide rule is no part of an image's object
    params = settings.model_dump(mode="json", exclude={"rank_factor"})
    models = {"svm": digest_file(ctx.input("svm")), "bbox": digest_file(ctx.input("bbox"))}
    tasks = []
    for record in images:
        # an object's clipping depends on the image's extent, which the features' key holds through its bytes
        key = features[record.id]
        tasks.append(
            ImageTask(record, Recipe("detect", VERSION, params, {"features": key, **models}), {"features": key})
        )
    return tasks


def _detector(features: "Mapping[str, Any]", svm: "Classifier", bbox: "BoxRegressor") -> str:
    """What detector this is, for people who have saved several: ``squeezenet1_0, spp, svm on fc7, boxes by pool5``."""
    boxes = f"boxes by {bbox.layer}" if bbox.enabled else "boxes as proposed"
    made_by = [str(features.get("network", "other features")), str(features.get("method", "warp"))]
    return ", ".join([*made_by, f"{svm.kind} on {svm.layer}", boxes])


def _check_classes(svm: "Classifier", bbox: "BoxRegressor", classes: tuple[str, ...]) -> None:
    for name, model in (("svm", svm), ("bbox", bbox)):
        if model.classes != classes:
            raise StageError(
                f"artifacts/{name}/model.h5: trained for classes {', '.join(model.classes)}, and the dataset has "
                f"{', '.join(classes)}; run `dvc repro`"
            )


def _check_lengths(svm: "Classifier", bbox: "BoxRegressor", dims: dict[str, int]) -> None:
    lengths = {"svm": (svm.layer, svm.weights.shape[1])}
    if bbox.enabled:
        lengths["bbox"] = (bbox.layer, bbox.weights.shape[1] - 1)
    for name, (layer, length) in lengths.items():
        if length != dims[layer]:
            raise StageError(
                f"artifacts/{name}/model.h5: trained on {layer} of length {length}, and the stored features' {layer} "
                f"has {dims[layer]}; run `dvc repro`"
            )


def _payload(
    record: "ImageRecord", found: "Candidates", nms_iou: float, svm: "Classifier", bbox: "BoxRegressor"
) -> "Payload":
    from cache import Payload

    from .suppression import suppressed

    kept = suppressed(found, nms_iou)
    attrs: dict[str, Any] = {
        "image": record.file_name,
        "image_sha256": record.sha256,
        "box_convention": BOX_CONVENTION,
        "count": len(kept.bbox),
        "classes": list(svm.classes),
        "classifier": svm.kind,
        "layers": [svm.layer, bbox.layer],
        "regressed": bbox.enabled,
    }
    return Payload({**kept.arrays(), **found.arrays()}, attrs, "hdf5")


STAGE = Stage(
    name="detect",
    version=VERSION,
    settings={"detect": DetectSettings},
    groups=("detect",),
    inputs={
        "manifest": "artifacts/manifest/manifest.json",
        "features": "artifacts/features/manifest.json",
        "svm": "artifacts/svm/model.h5",
        "bbox": "artifacts/bbox/model.h5",
    },
    outputs={"manifest": "artifacts/detect/manifest.json"},
    run=run,
)
