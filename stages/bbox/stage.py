"""Stage ``bbox``: box regressors of each class, or one for all, from features to box transforms (paper appendix C).

Reads the features (``bbox.layer``) of the train split, or of the part of it that ``bbox.images`` names, but not of
images that are annotated in part; writes
``artifacts/bbox/model.h5``. Cost: a pass over the boxes, then over the features, and per class some tens of passes over
its rows in memory (``ridge.RowsRidge``), or for more than some 4 (d + 1) rows a Cholesky factorisation of (d + 1)
squared.
"""

from typing import Any

from cache import digest_json
from cache.errors import StageError
from manifests.select import training_images
from stages.contract import Context
from stages.features.featureset import FeatureSet, mean_norm

from .regressor import write_box_regressor
from .settings import BboxSettings
from .training import disabled_regressor, train_box_regressors


def run(ctx: Context) -> None:
    """Train the regressors, or write one that moves nothing where ``bbox.enabled`` is false."""
    settings, dataset = ctx.settings(BboxSettings), ctx.dataset()
    if not settings.enabled:
        write_box_regressor(ctx.output("model"), disabled_regressor(settings.layer, dataset.classes))
        ctx.publish("trained", [], {})
        return
    artifact = ctx.artifact("features")
    records = training_images(dataset, settings.images)
    ids = [record.id for record in records if record.exhaustive]
    if not ids:
        raise StageError(
            f"bbox: all {len(records)} training images are annotated in part (exhaustive: false) and have no proposals "
            "to regress; name a split of others in manifest.train and bbox.images, or set bbox.enabled: false"
        )
    features = FeatureSet(ctx.store, artifact)
    boxes = features.layer(settings.layer, ids)
    images = features.layer(settings.layer, ids, read_ahead=max(2, ctx.workers))

    def train() -> None:
        norm = mean_norm(boxes, ctx.seed)
        ctx.log.info(f"mean norm of {settings.layer}: {norm:.4g}, scaled to {settings.target_norm:g}")
        scale = settings.target_norm / norm
        model = train_box_regressors(
            images, dataset.classes, scale, settings, ctx.log, boxes=boxes, workers=ctx.workers
        )
        write_box_regressor(ctx.output("model"), model)

    params = {"seed": ctx.seed, "bbox": key_params(settings), "classes": list(dataset.classes)}
    ctx.trained(params, {"features": digest_json([artifact.keys[image_id] for image_id in ids])}, train)


def key_params(settings: BboxSettings) -> dict[str, Any]:
    """Return the parameters that a model depends on: not ``images``, which are inputs, ``shared`` unless usual."""
    params = settings.model_dump(mode="json", exclude={"images"})
    if not settings.shared:  # as models were named before they could be
        del params["shared"]
    return params
