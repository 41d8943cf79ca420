"""``rcnn run classify``: error rates of the pre-trained network on the test split of a classification dataset.

Reads the dataset manifest and ``artifacts/pretrain/weights.safetensors``; writes one object per picture (the logits of
its views) and ``artifacts/classify/manifest.json``; for dense views one object per picture and scale (the best of its
windows) and ``artifacts/classify/dense/SCALE.json``, and ``scales_px.txt`` in any case; and
``reports/classification.json``. Cost: up to ten crops and two full pictures through the network for each picture, once;
for dense views each scale of it and of its mirror image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from cache import atomic_write
from cache.documents import json_text
from cache.errors import StageError
from manifests import Dataset, ImageRecord
from stages.contract import Context
from stages.dense.scales import check_scales, paper_scales, scaled_px
from stages.dense.windows import windows_of
from stages.features.views import ViewsCompute, check_views, network_made_of, task_of, views_made_of
from stages.networks.network import Network
from stages.networks.settings import ArithmeticSettings
from stages.networks.weights import class_names, load_weights

from .dense_views import DenseCompute
from .scoring import DENSE, METHODS, Scores, dense_scores, error_rates, mean_scores, rank
from .settings import ClassifySettings

NAME = "classify"
_PARTS = 8, 7  # the paper's 256 px for crops of 224
_TOLD = 10  # pictures that are too large, named one a line


@dataclass(frozen=True)
class _Tested:
    """What is tested: the network, its output for each class of the dataset, and the pictures."""

    network: Network
    dtype: str
    columns: Sequence[int]
    records: Sequence[ImageRecord]

    def rank(self, scores: Scores, record: ImageRecord) -> int:
        """The place of a picture's class, by the scores of all outputs."""
        assert record.category is not None  # of a dataset without boxes
        return rank(scores[self.columns], record.category)

    def entries(self, keys: Sequence[str]) -> list[tuple[int, str]]:
        """The list of the pictures' objects."""
        return [(record.id, key) for record, key in zip(self.records, keys, strict=True)]


def run(ctx: Context) -> None:
    """Compute what the store lacks of the pictures' views, average their scores, and count the errors."""
    settings = ctx.settings(ClassifySettings)
    dataset = _classification(ctx.dataset())
    network = load_weights(ctx.input("weights"))
    tested = _Tested(network, ctx.settings(ArithmeticSettings).dtype, _columns(ctx, dataset), dataset.split("test"))
    able = [name for name in METHODS if network.pyramid is not None or "full" not in name]
    methods = able if settings.views is None else list(settings.views)
    ranks = _of_views(ctx, settings, tested, [name for name in methods if name in METHODS])
    ranks |= _of_windows(ctx, settings, tested, [name for name in methods if name in DENSE])
    _report(ctx, len(dataset.classes), {name: ranks[name] for name in methods})


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


def _of_views(
    ctx: Context, settings: ClassifySettings, tested: _Tested, methods: Sequence[str]
) -> dict[str, list[int]]:
    """The places of the pictures' classes by each method that looks at crops or full pictures."""
    network = tested.network
    views = sorted({view for name in methods for view in METHODS[name]})
    side = settings.short_side_px or round(network.input.side_px * _PARTS[0] / _PARTS[1])
    made_of = views_made_of(network, ["fc8"], tested.dtype, side, views)
    if not methods:
        ctx.publish("manifest", [], made_of)
        return {}
    check_views(network, side, views, NAME)
    tasks = [task_of(record, NAME, ctx.node.version, made_of) for record in tested.records]
    keys = ctx.compute_images(tasks, ViewsCompute(ctx.image, network, made_of, ctx.device), unit="views")
    ranks: dict[str, list[int]] = {name: [] for name in methods}
    for record, key in zip(tested.records, keys, strict=True):
        logits = ctx.store.get(NAME, key, ["fc8"]).arrays["fc8"]
        for name, found in ranks.items():
            found.append(tested.rank(mean_scores(logits, views, METHODS[name]), record))
    ctx.publish("manifest", tested.entries(keys), made_of)
    return ranks


def _of_windows(
    ctx: Context, settings: ClassifySettings, tested: _Tested, methods: Sequence[str]
) -> dict[str, list[int]]:
    """The places of the pictures' classes by each method that looks at windows; objects and lists scale by scale."""
    network, folder = tested.network, ctx.output("dense")
    scales = _scales(ctx, settings, network, tested.records) if methods else ()
    folder.mkdir(exist_ok=True)
    told = "\n".join(map(str, scales)) or "classify.views lists no dense view"  # of an empty folder DVC warns
    atomic_write(folder / "scales_px.txt", f"{told}\n".encode())
    keys: list[list[str]] = []
    for scale in scales:
        made_of = network_made_of(network, ["fc8"], tested.dtype) | {"scale_px": scale}
        tasks = [task_of(record, NAME, ctx.node.version, made_of) for record in tested.records]
        keys.append(ctx.compute_images(tasks, DenseCompute(ctx.image, network, made_of, ctx.device), unit="windows"))
        ctx.publish("dense", tested.entries(keys[-1]), made_of, part=str(scale))
    ranks: dict[str, list[int]] = {name: [] for name in methods}
    for record, *own in zip(tested.records, *keys, strict=True):
        maxima = [ctx.store.get(NAME, key, ["coarse", "fine"]).arrays for key in own]
        for name, found in ranks.items():
            found.append(tested.rank(dense_scores(maxima, DENSE[name]), record))
    return ranks


def _scales(
    ctx: Context, settings: ClassifySettings, network: Network, records: Sequence[ImageRecord]
) -> tuple[int, ...]:
    """The scales of dense views. StageError where the network has no windows, a scale none, or pictures too many.

    Says so where two scales are one: sides are rounded to steps of a pooling's offsets.
    """
    try:
        windows = windows_of(network)
    except StageError as error:
        raise StageError(f"{NAME}.views: {error}") from None
    scales = settings.scales_px or paper_scales(windows)
    check_scales(scales, windows, f"{NAME}.scales_px")
    huge = []
    for record in records:
        try:
            scaled_px(record.width, record.height, max(scales), windows)
        except StageError as error:
            huge.append(f"{record.file_name}: {error}")
    if huge:
        more = [f"and {len(huge) - _TOLD} more pictures"] if len(huge) > _TOLD else []
        raise StageError("\n".join([*huge[:_TOLD], *more]))
    sizes = sorted({(record.width, record.height) for record in records})
    scaled = {scale: [scaled_px(*size, scale, windows) for size in sizes] for scale in sorted(scales)}
    for one, other in pairwise(scaled):
        if scaled[one] == scaled[other]:
            ctx.log.warning(
                f"{NAME}.scales_px: {one} and {other} bring every picture to the same size, which counts twice; leave "
                "one out"
            )
    return scales


def _report(ctx: Context, n_classes: int, ranks: dict[str, list[int]]) -> None:
    errors = {name: error_rates(found, n_classes) for name, found in ranks.items()}
    for name, rates in errors.items():
        top5 = "" if rates["top5_error"] is None else f", top-5 error {rates['top5_error']:.2f}%"
        ctx.log.info(f"{name}: top-1 error {rates['top1_error']:.2f}%{top5}")
    n_pictures = len(next(iter(ranks.values())))
    atomic_write(ctx.output("report"), json_text({"pictures": n_pictures, "classes": n_classes, **errors}).encode())
