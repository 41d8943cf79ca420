"""Stage ``slide``: the classifier and the box regressor at every window of an image (OverFeat sections 3.3, 4.1 and 5).

Reads the stored maps, the classifier and the regressor; writes an HDF5 object for each test image, and for each
training image held out, on which ``merge`` chooses how boxes merge, and the manifest. Cost: the fully connected layers
on each window of an image; a convolution nowhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cache import Artifact, Payload, Recipe, Store
from manifests import Dataset, ImageRecord
from stages.boxes.geometry import BOX_CONVENTION
from stages.contract import Compute, Context, ImageTask, image_attrs
from stages.dense.maps import array_of
from stages.networks.settings import ArithmeticSettings
from stages.training.held_out import held_out

from .agreement import check_classes
from .classifier import DenseClassifier, load_classifier
from .lists import map_keys, maps_of
from .regressor import EdgeRegressor, load_regressor
from .scorer import WindowScorer
from .settings import HeldOutSettings, SlideSettings, TopSettings


@dataclass(frozen=True)
class SlideCompute(Compute):
    """One image's scored windows, from its stored maps."""

    on_device = True
    store: Store
    classifier: DenseClassifier
    regressor: EdgeRegressor
    settings: SlideSettings
    k: int | None
    scales_px: tuple[int, ...]
    device: str
    made_of: Mapping[str, Any]

    @cached_property
    def scorer(self) -> WindowScorer:
        """Return classifier and regressor on the device of this process."""
        dtype = self.made_of["arithmetic"]
        return WindowScorer(self.classifier, self.regressor, self.settings, self.k, self.device, dtype)

    def prepare(self) -> None:
        """Move the layers to the device."""
        _ = self.scorer

    def __call__(self, task: ImageTask) -> Payload:
        """Score the image's windows."""
        record, names = task.image, [array_of(scale) for scale in self.scales_px]
        ((stage, key),) = task.reads.items()
        arrays = self.store.get(stage, key, names).arrays
        maps = {scale: arrays[name] for scale, name in zip(self.scales_px, names, strict=True)}
        found = self.scorer(maps, record.width, record.height, record.file_name)
        attrs = {
            **image_attrs(record, len(found)),
            "box_convention": BOX_CONVENTION,
            "classes": list(self.classifier.classes),
            **self.made_of,
        }
        return Payload(found.arrays(), attrs, "hdf5")


def run(ctx: Context) -> None:
    """Score the windows of the images that the store lacks."""
    settings, dataset = ctx.settings(SlideSettings), ctx.dataset()
    classifier, regressor = load_classifier(ctx.input("weights")), load_regressor(ctx.input("regressor"))
    check_classes(classifier.classes, dataset.classes, ctx.shown("weights"))
    check_classes(regressor.classes, dataset.classes, ctx.shown("regressor"))
    maps = maps_of(ctx.artifact("maps"), classifier.network, ctx.input("manifest"), ctx.shown("maps"))
    regressor.check_conv(maps.summary["weights_digest"], ctx.shown("regressor"))
    k = ctx.settings(TopSettings).k
    made_of = {
        "classifier": classifier.digest,
        "regressor": regressor.digest,
        "stride": settings.stride,
        "arithmetic": ctx.settings(ArithmeticSettings).dtype,
        **({"k": k} if regressor.per_class else {}),
    }
    images = _images(ctx, dataset)
    compute = SlideCompute(
        ctx.store, classifier, regressor, settings, k, tuple(maps.summary["scales_px"]), ctx.device, made_of
    )
    tasks = [_task(ctx, record, made_of, maps) for record in images]
    keys = ctx.compute_images(tasks, compute, unit="windows")
    summary = {
        **made_of,
        "network": classifier.network.name,
        "scales_px": maps.summary["scales_px"],
        "per_class": regressor.per_class,
        "classes": list(dataset.classes),
    }
    ctx.publish("manifest", [(record.id, key) for record, key in zip(images, keys, strict=True)], summary)


def _images(ctx: Context, dataset: Dataset) -> list[ImageRecord]:
    """Return the test images, and the training images held out, in the dataset's order."""
    aside = held_out(dataset.split("train"), ctx.settings(HeldOutSettings).held_out_fraction, ctx.seed)
    wanted = aside | {record.id for record in dataset.split("test")}
    return [record for record in dataset.images if record.id in wanted]


def _task(ctx: Context, record: ImageRecord, made_of: Mapping[str, Any], maps: Artifact) -> ImageTask:
    (key,) = map_keys(maps, [record])
    recipe = Recipe(ctx.node.stage.name, ctx.node.version, made_of, {"maps": key})
    return ImageTask(record, recipe, {maps.stage: key})
