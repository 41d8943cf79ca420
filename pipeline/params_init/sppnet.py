"""The values that ``rcnn params init`` chooses for SPP-net, on R-CNN's dataset and with its network."""

from typing import Any

from cache.text import counted
from stages.detections.settings import DetectSettings
from stages.networks.architectures import ARCHITECTURES
from stages.networks.settings import NetworkSettings

from .rcnn import choose_limits, rcnn_choices
from .task import Choices, Task

_SCALES_PX = {1: [688], 5: [480, 576, 688, 864, 1200]}  # SPP-net's detectors
_SMALL_SCALES_PX = [160, 240, 360, 540, 810]  # the same, for a network of 64 px
_LEVELS = [1, 2, 3, 6]
# The authors' (spp_test.m). Their limit on a class's rank is on the last class alone: what counts is 100 an image.
_DETECT = DetectSettings(order="suppress_then_cut", score_floor=-1.5, rank_factor=100)


def sppnet_choices(task: Task) -> Choices:
    """Choose SPP-net's own parameters for the same dataset and network."""
    choices = Choices()
    network = _spp_network(choices, task)
    has_fc = network.pyramid is not None
    layers = ["pool5", "fc6", "fc7"] if has_fc else ["pool5"]
    choices.put("features.layers", layers)
    choices.put("features.method", "spp")
    choices.put("features.context_px", 0)
    side = task.network.input.side_px
    scales = _SCALES_PX[5 if task.preset == "paper" else 1]
    tiny = task.settings.name == "small"
    spp: dict[str, Any] = {"scales_px": _SMALL_SCALES_PX if tiny else scales}
    spp |= {"levels": list(network.pyramid or _LEVELS), "pooling": "max", "target_side_px": side if tiny else 224}
    choices.put("features.spp", spp, f"of this network's {side} px" if tiny else "the paper's 5 scales: 480 to 1200")
    choices.put("svm.layer", layers[-1], "the paper: fc7")
    choices.put("svm.duplicate_iou", 0.7, "the paper's")
    choices.put("bbox.layer", "pool5")
    choices.put("bbox.ridge_lambda", 4000, "the authors' code's")
    choices.put("bbox.min_iou", 0.5, "the authors' code's")
    choices.put("detect.order", _DETECT.order, "the authors' code's")
    choices.put("detect.score_floor", _DETECT.score_floor, "the authors' code's")
    choose_limits(choices, task, _DETECT)
    for name in ("svm.memory_limit_mb", "bbox.memory_limit_mb"):
        choices.put(name, rcnn_choices(task).values[name])
    choices.say(
        f"SPP-net: {counted(len(spp['scales_px']), 'scale')}; SVMs on {layers[-1]}, "
        + (
            "fine-tuned"
            if has_fc
            else "no fine-tuning: it trains only layers behind a pyramid, which these weights lack"
        )
    )
    return choices


def _spp_network(choices: Choices, task: Task) -> NetworkSettings:
    """Choose network and fine-tuning: fc layers only where the weights know, or will know, a pyramid."""
    own_fc6 = ARCHITECTURES[task.settings.name].fc6 is not None
    pyramid = tuple(_LEVELS) if task.from_scratch and own_fc6 else task.settings.pyramid
    values = task.settings.model_dump() | {"pyramid": pyramid}
    network = NetworkSettings(**values | ({"pool5_grid": None} if pyramid else {}))
    for name, value in network.model_dump(mode="json").items():
        choices.put(f"network.{name}", value, "the paper: zf5" if name == "name" else None)
    root = rcnn_choices(task)
    for name, value in root.values.items():
        if name.startswith(("pretrain.", "finetune.")):
            choices.put(name, value, root.comments.get(name))
    choices.comments["pretrain"] = "as R-CNN's"
    demo = task.from_scratch and task.settings.name == "small" and task.preset != "paper"
    choices.put("finetune.lr", 0.01 if demo else 0.001, "ours; the authors' code: 0.001" if demo else "")
    choices.put("finetune.new_layer_lr", 1, "the authors' code's")
    choices.put("finetune.new_layer_bias", 1, "the authors' code's")
    choices.put("finetune.decay_biases", True, "the authors' code's")
    choices.put("finetune.sampling", "blocks", "the authors' code's")
    choices.put("finetune.bg_iou_low", 0.1, "the paper's")
    choices.put("finetune.fg_per_batch", 32, "the paper's")
    choices.put("finetune.bg_per_batch", 96, "the paper's")
    if task.preset == "paper":
        choices.put("finetune.iterations", 200_000, "the authors' code's")
        choices.put("finetune.step", [30_000, 60_000], "the authors' code's")
    else:
        choices.put("finetune.step", [root.values["finetune.step"]], "the authors' code: [30000, 60000]")
    if pyramid is None:
        choices.put("finetune.iterations", 0, "off: only layers behind a pyramid are trained; the authors: 200000")
    return network
