"""The values that ``rcnn params init`` chooses for OverFeat's detector, on R-CNN's dataset and with its weights.

What depends on the data: the scales, at which a window is as large as the objects, and the length of the trainings.
What depends on the network: a last pooling that is regular, so that it has windows.
"""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache.errors import ParamsError, StageError
from manifests.scenes.dataset import NAME as BUILT_IN
from stages.dense.windows import DenseWindows, windows_of
from stages.networks.architectures import ARCHITECTURES
from stages.networks.network import Network, build
from stages.networks.receptive_field import map_geometry
from stages.networks.settings import InputSettings, NetworkSettings
from stages.networks.spec import InputSpec

from .rcnn import put_network
from .task import Choices, Preset, Task

_GRID, _FC = 4, (1024, 1024)  # of a new head; fc7's size is SPP-net's suggestion for small data
_FILLS = 0.8  # ours: the part of its window's side that an object takes, of one that fits well
_RATIO = 1.35  # ours: between scales; the paper's six lie 1.05 to 1.22 apart
_ENDS = (0.05, 0.95)  # quantiles of the objects' sizes that are reached
_MOST_SCALES = {"small": 5, "medium": 8}
_MOST_PX = {"small": 700, "medium": 1200}  # ours, of the shorter side: what a CPU does in seconds
_ROUNDS = {"finetune_dense": 15, "regress": 20}  # ours: how often training sees each image
_LEAST, _MOST = {"small": 200, "medium": 600}, {"small": 1_500, "medium": 20_000}
_DROP = 2 / 3  # the part of a training after which its rate drops (ours)
_SMALL_UNITS = {"small": (512, 256), "medium": (2048, 1024)}


def overfeat_choices(task: Task, project: Path) -> Choices:
    """Choose the parameters of kind ``overfeat``. ParamsError or StageError where none can work."""
    choices = Choices()
    network = _network(choices, task, project)
    _scales(choices, task, windows_of(network))
    _trainings(choices, task)
    return choices


def _network(choices: Choices, task: Task, project: Path) -> Network:
    """Choose the head: the network's own fully connected layers, or new ones behind a regular pooling."""
    settings, network = task.settings, task.network
    try:
        windows_of(network)
        choices.say(f"windows: {network.input.side_px} px, as {settings.name}'s fc6 takes its last map")
    except StageError:
        settings = _with_head(settings, network, task.preset)
        network = _built(settings)
        windows = windows_of(network)
        choices.say(
            f"windows: {windows.side_px} px, {windows.cells} x {windows.cells} cells, pooled to {_GRID} x {_GRID} for "
            f"a new fc6 and fc7 of {_FC[0]} outputs (ours), drawn from the seed"
        )
    put_network(choices, task, settings, project, "overfeat_fast, overfeat_accurate")
    return network


def _built(settings: NetworkSettings) -> Network:
    """Build a network without weights, of parameters that say its input."""
    assert settings.input is not None
    known = settings.input.model_dump() | {
        "side_px": settings.input.side_px or ARCHITECTURES[settings.name].input.side_px
    }
    spec = InputSpec(**known)
    return build(settings.name, 2, pyramid=settings.pyramid, fc=settings.fc, spec=spec, device="meta").eval()


def _with_head(settings: NetworkSettings, network: Network, preset: Preset) -> NetworkSettings:
    """Give a network without a regular last pooling new layers, and the nearest input whose map they divide."""
    axis = map_geometry(network).x
    own = network.input
    cells = (own.side_px - axis.first - axis.last - 1) / axis.stride + 1
    # Fewer for a first look: windows half as large see small objects at scales that cost a quarter.
    whole = 2 * _GRID if preset == "small" else max(round(cells / _GRID), 1) * _GRID
    side = axis.first + axis.last + 1 + axis.stride * (whole - 1)
    given = InputSettings(
        color_order=own.color_order,
        value_range=1 if own.value_range == 1 else 255,
        mean=own.mean,
        std=own.std,
        side_px=side,
    )
    changed = {"input": given, "pyramid": (_GRID,), "fc": _FC, "pool5_grid": None}
    if settings.weights == "pretrain":
        raise ParamsError(
            f"network {network.name}: its input of {own.side_px} px gives no windows, and a network that is trained "
            "from scratch has no other; choose alexnet, zf, small, overfeat_fast or overfeat_accurate"
        )
    return NetworkSettings(**settings.model_dump() | changed)


def _scales(choices: Choices, task: Task, windows: DenseWindows) -> None:
    """Choose scales at which nearly all objects fill a window."""
    if task.preset == "paper":
        choices.put("maps.scales_px", None, "the paper's six")
        return
    records = task.dataset.split("train")
    shares = np.concatenate(
        [
            np.sqrt((record.boxes[:, 2:] - record.boxes[:, :2]).prod(axis=1).clip(1)) / min(record.width, record.height)
            for record in records
        ]
    )
    if not len(shares):
        choices.put("maps.scales_px", None, "the paper's six")
        return
    labels = np.concatenate([record.labels for record in records])
    by_class = {name: shares[labels == at] for at, name in enumerate(task.dataset.classes) if (labels == at).any()}
    small, large = np.quantile(shares, _ENDS)
    # A rare class of small objects is a class, too, and counts as much as the others in a mean of classes.
    small = min(small, *(float(np.median(of_class)) for of_class in by_class.values()))
    most = _MOST_PX[task.preset]
    low = max(_FILLS * windows.side_px / large, windows.side_px)
    wanted = max(_FILLS * windows.side_px / small, low)
    high = max(min(wanted, most), low)
    count = min(1 + math.ceil(math.log(high / low) / math.log(_RATIO) - 1e-9), _MOST_SCALES[task.preset])
    scales = sorted({round(scale) for scale in np.geomspace(low, high, max(count, 1))})
    choices.put("maps.scales_px", scales, "ours, of these objects; the paper: [245, 281, 317, 389, 425, 461]")
    choices.say(
        f"scales: {', '.join(map(str, scales))} px (ours): there a window of {windows.side_px} px is as large as the "
        "objects"
    )
    if wanted > 1.2 * high:
        _say_what_is_small(choices, by_class, _FILLS * windows.side_px, scales[-1])


def _say_what_is_small(
    choices: Choices, by_class: dict[str, NDArray[np.float64]], fill_px: float, most_px: int
) -> None:
    """Say which objects fill too little of a window at the largest scale.

    Args:
        by_class: sizes as parts of their images' shorter sides, by class.
        fill_px: the side that an object has in its window, of one that fits well.
        most_px: the largest scale.
    """
    least = fill_px / most_px / 1.2
    small = {name: int((sizes < least).sum()) for name, sizes in by_class.items()}
    part = sum(small.values()) / sum(map(len, by_class.values()))
    choices.say(
        f"scales: {part:.0%} of the objects are small for these windows even at {most_px} px; larger maps.scales_px "
        "find them, and take time and memory by their square"
    )
    for name, sizes in by_class.items():
        if 2 * small[name] > len(sizes):
            scale = math.ceil(fill_px / float(np.median(sizes)) / 10) * 10
            choices.say(
                f"scales: {small[name]} of {len(sizes)} objects of class {name!r} are among them, so that few of it "
                f"will be found: add {scale} to maps.scales_px for it"
            )


def _trainings(choices: Choices, task: Task) -> None:
    """Choose the length of both trainings by the images, and what the regressor is."""
    mirror = task.dataset.name != BUILT_IN
    images = len(task.dataset.split("train"))
    for group, per_batch in (("finetune_dense", 4), ("regress", 8)):
        choices.put(f"{group}.mirror", mirror, "" if mirror else "a mirrored digit is no digit")
        if task.preset == "paper":
            continue
        wanted = _ROUNDS[group] * images // per_batch
        iterations = min(max(wanted, _LEAST[task.preset]), _MOST[task.preset])
        choices.put(f"{group}.iterations", iterations, "ours, by the images")
        choices.put(f"{group}.step", max(1, round(_DROP * iterations)), "ours")
        choices.put(f"{group}.eval_every", min(max(iterations // 20, 1), 1000))
        choices.put(f"{group}.checkpoint_every", min(max(iterations // 5, 1), 1000))
        choices.say(f"{group}: {iterations} iterations of {per_batch} images (ours; the paper is silent)")
    if task.preset != "paper":
        choices.put("finetune_dense.dropout", False, "ours, for few iterations; the paper: true")
        units = list(_SMALL_UNITS[task.preset])
        choices.put("regress.units", units, "ours, for few images; the paper: [4096, 1024]")
    difficult = not any((~(record.difficult | record.crowd)).any() for record in task.dataset.split("train"))
    for group in ("finetune_dense", "regress"):
        choices.put(f"{group}.difficult", difficult)
    if difficult:
        choices.say("difficult objects are trained on: the training images have no others")
