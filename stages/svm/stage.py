"""Stage ``svm``: one linear SVM per class with hard negative mining, or the network's softmax (paper 2.3, app. B).

Reads the features (``svm.layer``) of the train split, or of the part of it that ``svm.images`` names; writes
``artifacts/svm/model.h5`` and the mining log. Cost: a pass over the ground truth's rows (over all rows with
``svm.positive_iou``) and ``svm.passes`` over all features; beside reading them, for 20 classes about 4 s of two cores
per million regions of a 4,096-d layer, and a second for the first of them.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from cache import atomic_write, digest_file, digest_json
from cache.errors import StageError
from manifests import ImageRecord
from manifests.select import training_images
from stages.contract import Context
from stages.features.featureset import FeatureSet, mean_norm

from .cells import spp_responses
from .classifier import write_classifier
from .mining import train_svms
from .records import FitRecord
from .settings import SvmSettings
from .softmax import softmax_classifier

_MINED = 43  # tells this draw's seed from others: the paper's section


def run(ctx: Context) -> None:
    """Train on the train split's features, or take over the fine-tuned network's last layer."""
    settings, dataset, artifact = ctx.settings(SvmSettings), ctx.dataset(), ctx.artifact("features")
    records = training_images(dataset, settings.images)
    ids = [record.id for record in records]
    sides_px = {record.id: min(record.width, record.height) for record in records}
    features = FeatureSet(ctx.store, artifact)
    images = features.layer(settings.layer, ids, read_ahead=max(2, ctx.workers))
    mined = mined_images(records, settings.mine_images, ctx.seed) if settings.classifier == "svm" else ids

    def train() -> None:
        fits: list[FitRecord] = []
        if settings.classifier == "softmax":
            model = softmax_classifier(ctx.input("weights"), settings.layer, dataset.classes)
        else:
            norm = mean_norm(images, ctx.seed)
            ctx.log.info(f"mean norm of {settings.layer}: {norm:.4g}, scaled to {settings.target_norm:g}")
            scale = settings.target_norm / norm
            model, fits = train_svms(
                images,
                dataset.classes,
                scale,
                settings,
                ctx.seed,
                ctx.log,
                objects=images.objects(),
                mined=features.layer(settings.layer, mined, read_ahead=max(2, ctx.workers)) if mined != ids else None,
                responses=spp_responses(artifact.summary, sides_px) if settings.drop_equal else None,
                workers=ctx.workers,
            )
        write_classifier(ctx.output("model"), model)
        write_mining_log(ctx.output("mining"), fits)

    own = settings.model_dump(mode="json", exclude={"images", "mine_images"})  # the images are among the inputs
    params = {"seed": ctx.seed, "svm": own, "classes": list(dataset.classes)}
    inputs = {"features": digest_json([artifact.keys[image_id] for image_id in ids])}
    if mined != ids:  # as models were named before some could be left out
        inputs["mined"] = digest_json([artifact.keys[image_id] for image_id in mined])
    if settings.classifier == "softmax":
        inputs["weights"] = digest_file(ctx.input("weights"))
    ctx.trained(params, inputs, train)


def mined_images(records: Sequence[ImageRecord], most: int | None, seed: int) -> list[int]:
    """Return the ids, in order, of the images that negatives are taken from: those whose objects are all annotated, and
    of these ``most`` drawn by the seed (None: all). StageError where there is none.
    """
    ids = [record.id for record in records if record.exhaustive]
    if not ids:
        raise StageError(
            f"svm: all {len(records)} training images are annotated in part (exhaustive: false), so that no region is "
            "known to be a negative; name a split of others in manifest.train and svm.images"
        )
    if most is None or most >= len(ids):
        return ids
    rng = np.random.default_rng(np.random.SeedSequence([seed, _MINED]))
    return [ids[place] for place in sorted(rng.choice(len(ids), most, replace=False).tolist())]


def write_mining_log(path: Path, records: list[FitRecord]) -> None:
    """One CSV row per fit, for ``dvc plots``; the header alone where nothing was mined (softmax)."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(FitRecord)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(record) for record in records)
    atomic_write(path, text.getvalue().encode())
