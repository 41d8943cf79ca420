"""``rcnn run classify``: error rates of the pre-trained network on the test split of a classification dataset.

Reads the dataset manifest and ``artifacts/pretrain/weights.safetensors``; writes one object per picture (the logits of
its views), ``artifacts/classify/manifest.json`` and ``reports/classification.json``. Cost: up to ten crops and two full
pictures through the network for each picture, once.
"""

from collections.abc import Sequence

from cache import atomic_write
from cache.documents import json_text
from cache.errors import StageError
from manifests import Dataset
from stages.contract import Context
from stages.features.views import ViewsCompute, check_views, task_of, views_made_of
from stages.networks.settings import ArithmeticSettings
from stages.networks.weights import class_names, load_weights

from .scoring import METHODS, error_rates, mean_scores, rank
from .settings import ClassifySettings

NAME = "classify"
_PARTS = 8, 7  # the paper's 256 px for crops of 224


def run(ctx: Context) -> None:
    """Compute the logits that the store lacks, average them, and count the errors."""
    settings = ctx.settings(ClassifySettings)
    dataset = _classification(ctx.dataset())
    network = load_weights(ctx.input("weights"))
    columns = _columns(ctx, dataset)
    able = [name for name in METHODS if network.pyramid is not None or "full" not in name]
    methods = able if settings.views is None else list(settings.views)
    views = sorted({view for name in methods for view in METHODS[name]})
    side = settings.short_side_px or round(network.input.side_px * _PARTS[0] / _PARTS[1])
    check_views(network, side, views, NAME)
    made_of = views_made_of(network, ["fc8"], ctx.settings(ArithmeticSettings).dtype, side, views)
    records = dataset.split("test")
    tasks = [task_of(record, NAME, ctx.node.version, made_of) for record in records]
    keys = ctx.compute_images(tasks, ViewsCompute(ctx.image, network, made_of, ctx.device), unit="views")
    _report(ctx, dataset, methods, views, columns, keys)
    ctx.publish("manifest", [(record.id, key) for record, key in zip(records, keys, strict=True)], made_of)


def _classification(dataset: Dataset) -> Dataset:
    if dataset.has_boxes:
        raise StageError(
            f"dataset {dataset.name} has boxes and not one class per picture, so there is no error rate; run `dvc "
            "repro` for its detector, or import class folders (`rcnn dataset import folders`)"
        )
    return dataset


def _columns(ctx: Context, dataset: Dataset) -> list[int]:
    """The network's output for each class of the dataset."""
    path = ctx.input("weights")
    names = class_names(path)
    lacking = [label for label in dataset.classes if names is None or label not in names]
    if names is None or lacking:
        found = "does not say what its outputs are" if names is None else f"has no output for {', '.join(lacking)}"
        raise StageError(
            f"{path}: {found}; train it on dataset {dataset.name} (network.weights: pretrain) by `dvc repro pretrain`"
        )
    return [names.index(label) for label in dataset.classes]


def _report(
    ctx: Context, dataset: Dataset, methods: Sequence[str], views: list[int], columns: list[int], keys: list[str]
) -> None:

    ranks: dict[str, list[int]] = {name: [] for name in methods}
    for record, key in zip(dataset.split("test"), keys, strict=True):
        assert record.category is not None  # of a dataset without boxes
        logits = ctx.store.get(NAME, key, ["fc8"]).arrays["fc8"]
        for name, found in ranks.items():
            found.append(rank(mean_scores(logits, views, METHODS[name])[columns], record.category))
    n_classes = len(dataset.classes)
    errors = {name: error_rates(found, n_classes) for name, found in ranks.items()}
    for name, rates in errors.items():
        top5 = "" if rates["top5_error"] is None else f", top-5 error {rates['top5_error']:.2f}%"
        ctx.log.info(f"{name}: top-1 error {rates['top1_error']:.2f}%{top5}")
    report = json_text({"pictures": len(keys), "classes": n_classes, **errors})
    atomic_write(ctx.output("report"), report.encode())
