"""Stage ``region_overlaps``: how much each region shares with each object's mask, in every image.

Reads the dataset manifest, the masks and the proposals; writes one HDF5 object per image and
``artifacts/region_overlaps/manifest.json``. Cost: some ms an image, since the regions of a merge tree are sums of its
leaves; reading masks takes as long. DVC runs it before the networks are trained, so that it says, too, which features
of regions cannot be had: those parameters change no object.
"""

from cache import Recipe
from cache.errors import DatasetError
from manifests.masks import masks_digest
from stages.contract import Context, ImageTask
from stages.proposals.reading import proposals_key

from .overlaps import OverlapsCompute
from .settings import BoxFeaturesSettings, RegionFeaturesSettings, RegionOverlapsSettings, check_regions


def run(ctx: Context) -> None:
    """Compute the overlaps that the store lacks; refuse at once what ``region_features`` would, hours later."""
    boxes = ctx.settings(BoxFeaturesSettings)
    check_regions(ctx.settings(RegionFeaturesSettings), boxes.layers, boxes.method)
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
    entries = [(record.id, key) for record, key in zip(dataset.images, keys, strict=True)]
    ctx.publish("manifest", entries, {"classes": list(dataset.classes)})
