"""``rcnn run classify_svm``: linear SVMs on features of whole pictures, layer by layer.

Reads the dataset manifest and ``artifacts/pretrain/weights.safetensors``; writes one object per picture (its layers),
``artifacts/classify_svm/manifest.json`` and ``reports/classification_svm.json``. Works on class folders and on
detection datasets, whose pictures show the classes of their objects. Cost: each picture through the network once, then
the SVMs.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import atomic_write
from cache.documents import json_text
from cache.errors import StageError
from manifests import Dataset
from stages.contract import Context
from stages.features.views import CENTRE, FULL, ViewsCompute, check_views, task_of, views_made_of
from stages.networks.network import Network
from stages.networks.settings import ArithmeticSettings
from stages.networks.weights import load_weights

from .picture_svms import computed_layers, draw_split, level_columns, normalised, picture_labels, splits, voc
from .settings import ClassifySvmSettings

NAME = "classify_svm"


def run(ctx: Context) -> None:
    """Compute the features that the store lacks, then train and judge SVMs on each layer."""
    settings = ctx.settings(ClassifySvmSettings)
    dataset = ctx.dataset()
    if settings.protocol == "splits" and dataset.has_boxes:
        raise StageError(
            f"classify_svm.protocol: splits needs one class per picture, {dataset.name} has boxes; set it to voc"
        )
    network = load_weights(ctx.input("weights"))
    full = settings.view == "full" or (settings.view is None and network.pyramid is not None)
    views = [FULL if full else CENTRE]
    side = settings.short_side_px or network.input.side_px
    check_views(network, side, views, NAME)
    layers = computed_layers(network, settings.layers, full=full)
    made_of = views_made_of(network, layers, ctx.settings(ArithmeticSettings).dtype, side, views)
    tasks = [task_of(record, NAME, ctx.node.version, made_of) for record in dataset.images]
    keys = ctx.compute_images(tasks, ViewsCompute(ctx.image, network, made_of, ctx.device), unit="views")
    results = {layer: _judge(ctx, settings, dataset, network, layer, keys) for layer in settings.layers}
    report = {"pictures": len(keys), "view": "full" if full else "crop", "short_side_px": side, **results}
    atomic_write(ctx.output("report"), json_text(report).encode())
    entries = [(record.id, key) for record, key in zip(dataset.images, keys, strict=True)]
    ctx.publish("manifest", entries, made_of)


def _judge(
    ctx: Context, settings: ClassifySvmSettings, dataset: Dataset, network: Network, layer: str, keys: list[str]
) -> dict[str, Any]:
    """The figures of one layer."""
    features = _features(ctx, network, layer, keys)
    labels = picture_labels(dataset.images, len(dataset.classes))
    if settings.protocol == "voc":
        train = np.array([record.split == "train" for record in dataset.images])
        result = voc(features, labels, train, dataset.classes, settings.C, ctx.seed, ctx.log)
        ctx.log.info(f"{layer}: mAP {_shown(result['mAP_11_point'])} (11 points), {_shown(result['mAP_area'])} (area)")
        return result
    own = labels.argmax(axis=1)
    generators = [np.random.default_rng(np.random.SeedSequence([ctx.seed, i])) for i in range(settings.n_splits)]
    per_class = settings.train_per_class, settings.test_per_class
    drawn = [draw_split(own, dataset.classes, *per_class, rng) for rng in generators]
    result = splits(features, own, drawn, settings.C, ctx.seed, ctx.log)
    deviation = "" if result["deviation"] is None else f" (deviation {result['deviation']:.2f})"
    ctx.log.info(f"{layer}: accuracy {result['accuracy']:.2f}%{deviation} over {settings.n_splits} splits")
    return result


def _features(ctx: Context, network: Network, layer: str, keys: list[str]) -> NDArray[np.float32]:
    """One layer of all pictures, float32 [n, d], each of length 1."""
    name = layer.partition("/")[0]
    rows: NDArray[np.float32] | None = None
    for i, key in enumerate(keys):
        row = ctx.store.get(NAME, key, [name]).arrays[name][0]
        row = row[level_columns(layer, network.pyramid, len(row))]
        if rows is None:
            rows = np.empty((len(keys), len(row)), np.float32)
        rows[i] = row
    assert rows is not None  # the manifest has pictures of two splits
    return normalised(rows)


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"
