"""Stage ``region_overlaps``: how much each region shares with each object's mask, in every image.

Reads the dataset manifest, the masks and the proposals; writes one HDF5 object per image and
``artifacts/region_overlaps/manifest.json``. Cost: some ms an image, since the regions of a merge tree are sums of its
leaves; reading masks takes as long. DVC runs it before the networks are trained, so that it says, too, which features
of regions cannot be had: those parameters change no object.
"""

from collections.abc import Sequence

from cache import Recipe
from cache.errors import DatasetError, StageError
from manifests import ImageRecord
from manifests.masks import masks_digest
from manifests.select import TRAIN, require_exhaustive
from stages.contract import Context, ImageTask
from stages.proposals.reading import proposals_key

from .overlaps import OverlapsCompute
from .settings import BoxFeaturesSettings, RegionFeaturesSettings, RegionOverlapsSettings, check_regions


def run(ctx: Context) -> None:
    """Compute the overlaps that the store lacks; refuse at once what ``region_features`` would, hours later."""
    boxes = ctx.settings(BoxFeaturesSettings)
    check_regions(ctx.settings(RegionFeaturesSettings), boxes.layers, boxes.method)
    require_exhaustive(ctx.dataset().split(TRAIN), "region_overlaps", other="")
    settings, dataset, proposals = ctx.settings(RegionOverlapsSettings), ctx.dataset(), ctx.artifact("proposals")
    tasks, problems = [], []
    for record in dataset.images:
        try:
            masks = masks_digest(record, dataset.category_ids)
        except DatasetError as error:
            problems.append(str(error))
            continue
        key = proposals_key(proposals, record)
        recipe = Recipe(
            ctx.node.stage.name, ctx.node.version, settings.model_dump(mode="json"), {"proposals": key, "masks": masks}
        )
        tasks.append(ImageTask(record, recipe, {proposals.stage: key}))
    if problems:
        raise DatasetError(problems)
    keys = ctx.compute_images(tasks, OverlapsCompute(ctx.store, ctx.masks, settings.min_object_px), unit="regions")
    _check_void(ctx, list(zip(dataset.images, keys, strict=True)))
    entries = [(record.id, key) for record, key in zip(dataset.images, keys, strict=True)]
    ctx.publish("manifest", entries, {"classes": list(dataset.classes)})


def _check_void(ctx: Context, computed: Sequence[tuple[ImageRecord, str]]) -> None:
    """StageError naming the images to train on of which nothing is known, by which regions would count as background.

    Looked for among those without an object, whether their overlaps were computed now or are in the store.
    """
    void = []
    for record, key in computed:
        if record.split == TRAIN and not len(ctx.store.get(ctx.node.stage.name, key, ["classes"]).arrays["classes"]):
            void += [record.file_name] if ctx.masks(record).void.all() else []
    if void:
        lines = (f"{name}: its mask is void all over; leave the image out of the split to train on" for name in void)
        raise StageError("\n".join(lines))
