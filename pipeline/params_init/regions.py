"""The values that ``rcnn params init`` chooses for Fast and Faster R-CNN, on R-CNN's dataset and with its weights.

What depends on the data: the scale of the images, anchors that reach its objects, the length of the trainings. What
depends on the network: a head that takes pooled regions.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache.errors import ParamsError, StageError
from cache.text import counted
from manifests import ImageRecord
from manifests.scenes.dataset import NAME as BUILT_IN
from stages.fast.images import LONG_PX, SHORT_PX, ScaledSize, scaled_size
from stages.faster.network import cut
from stages.networks.architectures import ARCHITECTURES
from stages.networks.network import Network, build
from stages.networks.receptive_field import map_geometry
from stages.networks.settings import NetworkSettings
from stages.rpn.anchors import Anchors
from stages.rpn.coverage import AnchorCoverage, coverage

from .rcnn import put_network
from .task import Choices, Task

_GRID, _FC = 7, (1024, 1024)  # of a new head: vgg16's bins, and layers of the size that SPP-net's paper suggests
_CELLS = 2  # ours: nearly all objects are at least so many cells of the map wide
_MAP_CELLS = 8  # and the map of an image, by its shorter side
_SMALL_PX = 300  # ours, of the shorter side for a first look
_LONGER = LONG_PX / SHORT_PX  # the paper's 1000 by 600
_RATIOS: tuple[float, ...] = (0.5, 1, 2)  # the paper's
_MORE_RATIOS: tuple[float, ...] = (0.25, 0.5, 1, 2, 4)
_OFTEN = 0.05  # a share of objects, or of images, that is worth a parameter
_MIN_SIDE_PX = 16  # the authors' code's
_HALF = 0.7  # a square of so much of an object's side overlaps it by half
_MAX_SCALES = 16
# The paper's iterations by VOC's images, and of these the part after which the rate drops: 80,000 and 60,000 of 5,011.
_PER_IMAGE = {"rpn": (16, 3 / 4), "fast": (8, 3 / 4), "joint": (14, 5 / 7)}
_PAPER = {"rpn": (80_000, 60_000), "fast": (40_000, 30_000), "joint": (70_000, 50_000)}
_LEAST, _FEW = 600, (100, 400)  # ours: iterations at least, and for a first look between


@dataclass(frozen=True)
class _Data:
    """The training images at a scale, and the objects in them that count."""

    task: Task
    short_px: int
    long_px: int

    @cached_property
    def images(self) -> list[ImageRecord]:
        return self.task.dataset.split("train")

    @cached_property
    def difficult(self) -> bool:
        """Whether difficult objects must count, since there are no others."""
        return not any((~(record.difficult | record.crowd)).any() for record in self.images)

    def size_of(self, record: ImageRecord) -> ScaledSize:
        return scaled_size(record.width, record.height, self.short_px, self.long_px)

    def counted(self, record: ImageRecord) -> NDArray[np.bool_]:
        return ~record.crowd if self.difficult else ~(record.crowd | record.difficult)

    def objects(self, *, scaled: bool) -> NDArray[np.float64]:
        """[m, 4] of all images, px of the resized or of the original ones."""
        parts = [np.zeros((0, 4))]
        for record in self.images:
            boxes = record.boxes[self.counted(record)]
            parts.append(np.asarray(self.size_of(record).scaled(boxes) if scaled else boxes, np.float64))
        return np.concatenate(parts)

    def labels(self) -> NDArray[np.int64]:
        return np.concatenate([record.labels[self.counted(record)].astype(np.int64) for record in self.images])


def region_choices(task: Task, project: Path, kind: str) -> Choices:
    """Choose the parameters of the kind ``fast``, ``faster`` or ``joint``.

    ParamsError or StageError where none can work.
    """
    choices = Choices()
    network = _network(choices, task, project)
    stride = map_geometry(network).x.stride
    data = _maps(choices, task, network, stride)
    if kind != "fast":
        _anchors(choices, data, stride)
        _proposals(choices, data)
    _pooling(choices, task)
    _trainings(choices, data, kind)
    _detections(choices, data, kind)
    return choices


def _network(choices: Choices, task: Task, project: Path) -> Network:
    """Choose the head: the network's own fc6 and fc7, or new ones where it has none that take one grid."""
    settings = task.settings
    own = ARCHITECTURES[settings.name].fc6 is not None
    levels = settings.pyramid
    if (own or settings.fc) and (levels is None or len(levels) == 1):
        choices.say(f"head: fc6 and fc7 of {settings.name}")
    else:
        why = "has no fc6" if levels is None else f"comes with an fc6 for a pyramid of {list(levels)}"
        settings = NetworkSettings(**settings.model_dump() | {"pyramid": (_GRID,), "fc": _FC, "pool5_grid": None})
        choices.say(
            f"head: {settings.name} {why}; regions are pooled to {_GRID} x {_GRID} cells for a new fc6 and fc7 of "
            f"{_FC[0]} outputs (ours), drawn from the seed"
        )
    put_network(choices, task, settings, project, "zf, vgg16")
    network = build(settings.name, 2, pyramid=settings.pyramid, fc=settings.fc, device="meta").eval()
    _ = cut(network, None).grid
    return network


def _maps(choices: Choices, task: Task, network: Network, stride: int) -> _Data:
    """Choose the scale by the images' size, and larger where the smallest objects would be lost in a cell."""
    if task.preset == "paper":
        data = _Data(task, SHORT_PX, LONG_PX)
        choices.say(f"maps: images scaled to {SHORT_PX} px, the longer side to at most {LONG_PX} (the paper)")
    else:
        data = _scale(choices, task, stride)
    whose = "the paper's" if task.preset == "paper" else "ours, by images and objects; the paper: "
    paper = task.preset == "paper"
    choices.comments["maps"] = ""
    choices.put("maps.short_px", data.short_px, whose if paper else f"{whose}{SHORT_PX}")
    choices.put("maps.long_px", data.long_px, whose if paper else f"{whose}{LONG_PX}")
    worst = min(task.dataset.images, key=lambda record: min(data.size_of(record)[:2]))
    size = data.size_of(worst)
    try:
        cut(network, None).map_shape(size.height, size.width)
    except StageError as error:
        raise ParamsError(f"{worst.file_name}: {error}") from None
    return data


def _scale(choices: Choices, task: Task, stride: int) -> _Data:
    images = task.dataset.images
    shorter = float(np.median([min(record.width, record.height) for record in images]))
    short = min(shorter, SHORT_PX if task.preset == "medium" else _SMALL_PX)
    why = f"the images' shorter side is {shorter:.0f} px (median)"
    plain = _Data(task, max(round(short), _MAP_CELLS * stride), 8192)
    sides = plain.objects(scaled=True)
    if len(sides):
        small = float(np.quantile(np.sqrt((sides[:, 2:] - sides[:, :2]).prod(axis=1).clip(0)), _OFTEN))
        wanted = min(plain.short_px * _CELLS * stride / max(small, 1), SHORT_PX)
        if wanted > plain.short_px:
            plain = _Data(task, round(wanted), 8192)
            why += f", and raised, since a twentieth of the objects would be below {_CELLS} cells of {stride} px"
    aspect = max(max(record.width, record.height) / min(record.width, record.height) for record in images)
    # a strip keeps some cells by its shorter side
    long = min(max(round(plain.short_px * _LONGER), int(np.ceil(4 * stride * aspect))), 8192)
    choices.say(f"maps: images scaled to {plain.short_px} px, the longer side to at most {long} (ours): {why}")
    return _Data(task, plain.short_px, long)


def _anchors(choices: Choices, data: _Data, stride: int) -> None:
    """Choose scales, and ratios, that reach the objects."""
    task, boxes, labels = data.task, data.objects(scaled=True), data.labels()
    found, ratios = _reach(data, boxes, labels, stride, _RATIOS), _RATIOS
    if _missed(found):
        wider = _reach(data, boxes, labels, stride, _MORE_RATIOS)
        if wider.unreachable.sum() < found.unreachable.sum() and task.preset != "paper":
            found, ratios = wider, _MORE_RATIOS
    shown = ", ".join(f"{scale:g}" for scale in found.scales_px)
    of = f"the {len(boxes)} objects of {counted(len(task.dataset.classes), 'class', 'classes')} at {data.short_px} px"
    if task.preset == "paper" or not found.scales_px:
        scales: tuple[float, ...] = (128, 256, 512)
        choices.say(f"anchors: 128, 256, 512 px (the paper); [{shown}] would reach nearly all of {of}")
    else:
        scales = found.scales_px[:_MAX_SCALES]
        more = f", heights by widths {', '.join(f'{r:g}' for r in ratios)}" if ratios != _RATIOS else ""
        choices.say(f"anchors: {shown} px{more}: they reach nearly all of {of} (ours; the paper: 128, 256, 512)")
    for name, missed, count in zip(task.dataset.classes, found.unreachable, found.objects, strict=True):
        if missed > _OFTEN * count:
            choices.say(
                f"anchors: {missed} of {count} objects of class {name!r} no anchor reaches: too small for cells "
                f"{stride} px apart, or too long; try a larger maps.short_px"
            )
    own = task.preset != "paper"
    choices.put("rpn.scales_px", list(scales), "ours, of these objects; the paper: [128, 256, 512]" if own else "")
    choices.put("rpn.ratios", list(ratios), "ours; the paper: [0.5, 1, 2]" if ratios != _RATIOS else "the paper's")
    small = task.from_scratch and task.settings.name == "small"
    choices.put("rpn.channels", 128 if small else None, "null: 512 for vgg16, else 256 (the paper)")
    choices.put("rpn.centres", "own", "ours; the authors: 7.5 + 16 i")
    _border(choices, data, Anchors(scales, tuple(ratios)), stride)


def _reach(
    data: _Data, boxes: NDArray[np.float64], labels: NDArray[np.int64], stride: int, ratios: tuple[float, ...]
) -> AnchorCoverage:
    """Ask what would reach all objects, as if no anchor did yet."""
    n = len(data.task.dataset.classes)
    return coverage(boxes, labels, np.zeros(len(boxes)), n, Anchors((128,), ratios), (stride, stride))


def _missed(found: AnchorCoverage) -> bool:
    return bool((found.unreachable > _OFTEN * found.objects).any())


def _border(choices: Choices, data: _Data, anchors: Anchors, stride: int) -> None:
    """Train on crossing anchors, too, where in many images no other fits in; ParamsError for the paper's value."""
    shapes = anchors.shapes()
    sides = shapes[:, 2:] - shapes[:, :2]
    sizes = np.array([data.size_of(record)[:2] for record in data.images], np.float64)
    narrow: NDArray[np.bool_] = np.logical_and.reduce(sides[None] + stride <= sizes[:, None], axis=2)
    fits: NDArray[np.bool_] = np.logical_or.reduce(narrow, axis=1)
    if (~fits).mean() <= _OFTEN:
        choices.put("rpn.border_px", 0, "the paper's")
    elif data.task.preset == "paper":
        choices.say(f"anchors: in {(~fits).sum()} of {len(fits)} training images none lies within; they are left out")
    else:
        choices.put("rpn.border_px", None, "ours: crossing anchors, too; the paper: 0")
        choices.say(
            f"anchors: those that cross an image's edge are trained on, too (the paper: none): in {(~fits).sum()} of "
            f"{len(fits)} training images no other lies within"
        )


def _proposals(choices: Choices, data: _Data) -> None:
    boxes = data.objects(scaled=False)
    if not len(boxes) or data.task.preset == "paper":
        choices.put("propose.min_side_px", _MIN_SIDE_PX, "the authors' code's")
        return
    least = float(np.quantile((boxes[:, 2:] - boxes[:, :2]).min(axis=1), 0.01))
    if _HALF * least >= _MIN_SIDE_PX:
        choices.put("propose.min_side_px", _MIN_SIDE_PX, "the authors' code's")
        return
    side = max(int(_HALF * least), 1)
    choices.put("propose.min_side_px", side, f"ours, of these objects; the authors' code: {_MIN_SIDE_PX}")
    choices.say(
        f"proposals: sides down to {side} px stay (ours; the authors: {_MIN_SIDE_PX}): objects have sides of "
        f"{least:.0f} px"
    )


def _pooling(choices: Choices, task: Task) -> None:
    """Choose what a short training does better with: bilinear pooling, and a box loss that pulls hard to its end."""
    if task.preset == "paper":
        return
    choices.put("fast.pooling", "align", "RoIAlign, for few images (ours); the paper: max")
    choices.put("fast.sigma", 3, "as torchvision's, for few images (ours); the paper: 1")
    choices.say(
        "fast: pooling align, sigma 3 (ours; the paper: max, 1): on few images many points better (docs/faster.md)"
    )


def _trainings(choices: Choices, data: _Data, kind: str) -> None:
    """Choose the length of each training by the images, and its rate by where the weights come from."""
    task = data.task
    mirror = task.dataset.name != BUILT_IN
    demo = task.from_scratch and task.settings.name == "small" and task.preset != "paper"
    lr = 0.005 if demo else 0.001
    groups = {"fast": ("fast",), "faster": ("rpn", "fast"), "joint": ("joint",)}[kind]
    for group in groups:
        iterations, step, why = _length(task, group)
        own = task.preset != "paper"
        paper = _PAPER[group]
        choices.put(f"{group}.iterations", iterations, f"ours, by the images; the authors: {paper[0]}" if own else "")
        choices.put(f"{group}.step", step, f"ours; the authors: {paper[1]}; or a list" if own else "the paper's")
        choices.put(f"{group}.lr", lr, "ours, for the small network; the paper: 0.001" if demo else "the paper's")
        choices.put(f"{group}.mirror", mirror, "the authors'" if mirror else "a mirrored digit is no digit")
        choices.put(f"{group}.eval_every", min(max(iterations // 20, 1), 1000))
        choices.put(f"{group}.checkpoint_every", min(max(iterations // 5, 1), 1000))
        whose = "ours, for the small network" if demo else "the paper's, for weights trained before"
        choices.say(f"{group}: {why}; lr {lr:g}, the same for all layers ({whose})")
    for group in {"fast": ("fast",)}.get(kind, ("rpn", "fast")):
        choices.put(f"{group}.difficult", data.difficult, "the authors' programs: false")
    if data.difficult:
        choices.say("difficult objects are trained on (the authors: not): the training images have no others")


def _length(task: Task, group: str) -> tuple[int, int, str]:
    """Return iterations, the one at which the rate drops, and why."""
    total, drop = _PAPER[group]
    if task.preset == "paper":
        return total, drop, f"the authors' {total} iterations, the rate divided by 10 after {drop}: days on a CPU"
    each, part = _PER_IMAGE[group]
    images = len(task.dataset.split("train"))
    low, high = (_LEAST, total) if task.preset == "medium" else _FEW
    iterations = min(max(each * images, low), high)
    how = f"{each} an image between {low} and {high}"
    return (
        iterations,
        max(1, round(part * iterations)),
        f"{iterations} iterations, {how} (ours; the authors: {total}, of VOC's 5,011 images)",
    )


def _detections(choices: Choices, data: _Data, kind: str) -> None:
    """Keep more where images are crowded."""
    most = max((int((~record.crowd).sum()) for record in data.images), default=0)
    if data.task.preset == "paper":
        return
    limits = {"roi_detect.max_per_image": (100, 1.5)} | ({} if kind == "fast" else {"propose.after_nms": (300, 3)})
    for name, (own, factor) in limits.items():
        limit = max(own, int(-(-factor * most // 50) * 50))
        choices.put(name, limit, "ours, for crowded images" if limit > own else "")
        if limit > own:
            choices.say(f"{name}: {limit} (ours; the authors: {own}): a training image shows {most} objects")
