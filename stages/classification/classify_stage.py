"""``rcnn run classify``: error rates of the pre-trained network on the test split of a classification dataset.

Reads the dataset manifest and ``artifacts/pretrain/weights.safetensors``, and for ``classify.committee``
``classification/saved/NAME.json``; writes one object per picture (the logits of its views) and
``artifacts/classify/manifest.json``; for dense views one object per picture and scale (the best of its windows) and
``artifacts/classify/dense/SCALE.json``, and ``scales_px.txt`` in any case; and ``reports/classification.json``. Cost:
up to ten crops and two full pictures through the network for each picture, once; for dense views each scale of it and
of its mirror image; for a committee nothing but reading its members' objects.
"""

from collections.abc import Mapping, Sequence
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

from .committee import PARAMETER, ROW, mean_of, read_members, shared_methods
from .dense_views import DenseCompute
from .runs import STAGE as NAME
from .runs import ClassifyRun, Looked, about
from .scoring import DENSE, METHODS, error_rates, rank
from .settings import ClassifySettings

_PARTS = 8, 7  # the paper's 256 px for crops of 224
_TOLD = 10  # pictures that are too large, named one a line


@dataclass(frozen=True)
class _Tested:
    """What is tested, and how: the network, its outputs for the dataset's classes, the pictures, the ways to test."""

    network: Network
    dtype: str
    outputs: Sequence[int]
    records: Sequence[ImageRecord]
    methods: Sequence[str]
    looked: Looked

    def entries(self, keys: Sequence[str]) -> list[tuple[int, str]]:
        """The list of the pictures' objects."""
        return [(record.id, key) for record, key in zip(self.records, keys, strict=True)]


def run(ctx: Context) -> None:
    """Compute what the store lacks of the pictures' views, average their scores, and count the errors."""
    settings = ctx.settings(ClassifySettings)
    dataset = _classification(ctx.dataset())
    tested = _tested(ctx, settings, dataset)
    names = settings.committee
    members = read_members(ctx.input("saved"), names, tested.looked, ctx.store) if names else {}
    shared = shared_methods(tested.methods, members) if members else []
    of_views = _of_views(ctx, tested)
    own = ClassifyRun(tested.looked, tuple(tested.outputs), of_views, _of_windows(ctx, tested))
    for name, member in members.items():
        if own.keys & member.keys:
            ctx.log.warning(f"{PARAMETER}: {name} is this run once more, whose network counts twice")
    _report(ctx, len(dataset.classes), _ranks(ctx, tested, own, members, shared))


def _ranks(
    ctx: Context, tested: _Tested, own: ClassifyRun, members: Mapping[str, ClassifyRun], shared: Sequence[str]
) -> dict[str, list[int]]:
    """The places of the pictures' classes by each method, and by those that a committee shares, in its rows."""
    ranks: dict[str, list[int]] = {name: [] for name in (*tested.methods, *map(ROW.format, shared))}
    scales = tested.looked.scales_px
    for record in tested.records:
        assert record.category is not None  # of a dataset without boxes
        scores = own.scores(ctx.store, record.sha256, tested.methods, scales)
        for name, found in scores.items():
            ranks[name].append(rank(found, record.category))
        theirs = [one.scores(ctx.store, record.sha256, shared, scales) for one in members.values()]
        for name in shared:
            mean = mean_of([scores[name], *(one[name] for one in theirs)])
            ranks[ROW.format(name)].append(rank(mean, record.category))
    return ranks


def _tested(ctx: Context, settings: ClassifySettings, dataset: Dataset) -> _Tested:
    """Find out what is to be tested, and how. StageError where the network cannot."""
    network, records = load_weights(ctx.input("weights")), dataset.split("test")
    able = [name for name in METHODS if network.pyramid is not None or "full" not in name]
    methods = able if settings.views is None else list(settings.views)
    views = sorted({view for name in methods if name in METHODS for view in METHODS[name]})
    looked = Looked(
        dataset=dataset.name,
        classes=tuple(dataset.classes),
        pictures=tuple(record.sha256 for record in records),
        short_side_px=settings.short_side_px or round(network.input.side_px * _PARTS[0] / _PARTS[1]),
        views=tuple(views),
        scales_px=_scales(ctx, settings, network, records) if any(name in DENSE for name in methods) else (),
    )
    dtype = ctx.settings(ArithmeticSettings).dtype
    return _Tested(network, dtype, _columns(ctx, dataset), records, methods, looked)


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


def _of_views(ctx: Context, tested: _Tested) -> tuple[str, ...]:
    """Compute the logits of crops and full pictures; the objects' keys by picture, none where no view is asked for."""
    network, looked = tested.network, tested.looked
    made_of = views_made_of(network, ["fc8"], tested.dtype, looked.short_side_px, looked.views)
    keys: list[str] = []
    if looked.views:
        check_views(network, looked.short_side_px, looked.views, NAME)
        tasks = [task_of(record, NAME, ctx.node.version, made_of) for record in tested.records]
        keys = ctx.compute_images(tasks, ViewsCompute(ctx.image, network, made_of, ctx.device), unit="views")
    ctx.publish("manifest", tested.entries(keys) if keys else [], made_of | about(looked, tested.outputs))
    return tuple(keys)


def _of_windows(ctx: Context, tested: _Tested) -> dict[int, tuple[str, ...]]:
    """Compute the best of the windows at each scale, and publish scale by scale; the keys by scale and picture."""
    network, folder, scales = tested.network, ctx.output("dense"), tested.looked.scales_px
    folder.mkdir(exist_ok=True)
    told = "\n".join(map(str, scales)) or "classify.views lists no dense view"  # of an empty folder DVC warns
    atomic_write(folder / "scales_px.txt", f"{told}\n".encode())
    found = {}
    for scale in scales:
        made_of = network_made_of(network, ["fc8"], tested.dtype) | {"scale_px": scale}
        tasks = [task_of(record, NAME, ctx.node.version, made_of) for record in tested.records]
        keys = ctx.compute_images(tasks, DenseCompute(ctx.image, network, made_of, ctx.device), unit="windows")
        ctx.publish("dense", tested.entries(keys), made_of, part=str(scale))
        found[scale] = tuple(keys)
    return found


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
