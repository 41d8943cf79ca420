"""Stage ``bbox``: class-specific box regressors from features to box transforms (paper appendix C).

Reads the train split's features (``bbox.layer``); writes ``artifacts/bbox/model.h5``. Cost: a pass over the boxes, then
over the features, and per class some tens of passes over its rows in memory (``ridge.RowsRidge``), or for more than
some 4 (d + 1) rows a Cholesky factorisation of (d + 1) squared.
"""

from stages.contract import Context, Stage

from .settings import BboxSettings

VERSION = 4


def run(ctx: Context) -> None:
    """Train the regressors, or write a model that moves nothing if ``bbox.enabled`` is false."""
    from stages.features.featureset import FeatureSet, mean_norm

    from .regressor import write_box_regressor
    from .training import disabled_regressor, train_box_regressors

    settings: BboxSettings = ctx.settings("bbox")
    dataset = ctx.dataset()
    if not settings.enabled:
        write_box_regressor(ctx.output("model"), disabled_regressor(settings.layer, dataset.classes))
        return
    ids = [record.id for record in dataset.split("train")]
    features = FeatureSet(ctx.store, ctx.artifact("features"))
    boxes = features.layer(settings.layer, ids)
    images = features.layer(settings.layer, ids, read_ahead=max(2, ctx.workers))
    norm = mean_norm(boxes, ctx.seed)
    ctx.log.info(f"mean norm of {settings.layer}: {norm:.4g}, scaled to {settings.target_norm:g}")
    scale = settings.target_norm / norm
    model = train_box_regressors(images, dataset.classes, scale, settings, ctx.log, boxes=boxes, workers=ctx.workers)
    write_box_regressor(ctx.output("model"), model)


STAGE = Stage(
    name="bbox",
    version=VERSION,
    settings={"bbox": BboxSettings},
    groups=("seed", "bbox"),
    inputs={
        "manifest": "artifacts/manifest/manifest.json",
        "features": "artifacts/features/manifest.json",
    },
    outputs={"model": "artifacts/bbox/model.h5"},
    run=run,
)
