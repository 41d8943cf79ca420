"""The values that ``rcnn params init`` chooses for R-CNN, whose each is, and why.

Three presets: ``paper`` has the papers' values, or their authors' code's, throughout; ``small`` is a first look in
minutes; ``medium`` lies between, for a night on a CPU. What is not chosen here has its default, which is the paper's.
"""

import os
from pathlib import Path

import numpy as np

from cache.text import counted, format_bytes
from manifests import ImageRecord
from manifests.scenes.dataset import NAME as BUILT_IN
from stages.detections.settings import DetectSettings
from stages.detections.thresholds import CANDIDATES_PER_OBJECT, candidates_wanted, objects_per_image
from stages.diagnosis.similar import named_sets
from stages.networks.initial import planned_network
from stages.networks.settings import NetworkSettings
from stages.proposals.cost import costly_pictures
from stages.scoring.settings import EvaluateSettings

from .task import CAFFE_SIDE_PX, Choices, Task

_NAMED = 8  # classes that are left out, on its line
_CONTEXT_PX = 16  # the paper's, of CAFFE_SIDE_PX
_ILSVRC_WIDTH_PX = 500
_NARROW_PX = 300  # ours: below it selective search finds a third of what it finds at 500 px (docs/own-data.md)
_REGIONS = 2000  # of an image; there may be more, where nothing caps them
_REGIONS_OF_SMALL = 1000  # ours: with some 2,400 an image the features of 200 images take 40 minutes on two cores
# Windows of a mini-batch, positive and background: the paper's, and what the authors' code has for O-Net.
_WINDOWS, _WINDOWS_OF_O_NET = (32, 96), (6, 18)
# What SqueezeNet's new last layer sees is the map itself, and its units are large: the squared norm of a cell is about
# 10^6 where CaffeNet's fc7 has some 10^3. At the paper's 0.001, ten times that in the new layer, the loss on raccoon
# was no number after 16 steps. (rate, factor of the new layer), ours. Fine-tuned at these, pool5, the only layer that
# its SVMs see, had 78.0 mAP there, and 92.2 as it came.
_RATES_OF_LARGE_MAPS = {"squeezenet1_0": (0.0001, 10)}


def rcnn_choices(task: Task) -> Choices:
    """Choose the root's parameters."""
    choices = Choices()
    for choose in (_data, _proposals, _network, _pretrain, _finetune, _features, _models, _detections, _memory):
        choose(choices, task)
    return choices


def _data(choices: Choices, task: Task) -> None:
    train, test = task.splits
    counts = [len(task.dataset.split(name)) for name in ("train", "test")]
    choices.put("dataset", task.dataset.name)
    choices.put("manifest.train", train)
    choices.put("manifest.test", test)
    if task.left_out is not None:
        choices.put("manifest.classes", list(task.dataset.classes))
    how = "; the authors train on trainval, too" if train == "trainval" else ""
    classes = counted(len(task.dataset.classes), "class", "classes")
    choices.say(
        f"dataset: {task.dataset.name}, {classes}; trained on {train} ({counts[0]} images), scored on {test} "
        f"({counts[1]}){how}"
    )
    if task.left_out:
        fewest = sorted(task.left_out.items(), key=lambda one: one[1])
        named = ", ".join(f"{name} ({number})" for name, number in fewest[:_NAMED])
        more = f" and {len(fewest) - _NAMED} more" if len(fewest) > _NAMED else ""
        choices.say(
            f"classes: {len(task.left_out)} left out, whose objects are background; with their objects in {train}: "
            f"{named}{more}"
        )
    if not any(image.annotated for image in task.dataset.split("test")):
        choices.say(f"scores: none, since nobody has annotated {test}; reports/results will have what was found there")
    known = set(task.dataset.classes)
    groups = [[name for name in group if name in known] for group in EvaluateSettings().similar_classes]
    choices.put("evaluate.similar_classes", [group for group in groups if len(group) > 1], "for the error analysis")
    choices.put("diagnose.similar_classes", named_sets(task.dataset.classes), "voc | coco | lists (docs/analysis.md)")


def _proposals(choices: Choices, task: Task) -> None:
    widths = np.array([image.width for image in task.dataset.images])
    middle, lower = float(np.median(widths)), float(np.quantile(widths, 0.25))
    name = "proposals.resize_width_px"
    if middle > _ILSVRC_WIDTH_PX:
        choices.put(name, _ILSVRC_WIDTH_PX, "the authors', for ILSVRC")
        choices.say(
            f"proposals: searched at a width of {_ILSVRC_WIDTH_PX} px, as the authors do for ILSVRC: the "
            f"images are {middle:.0f} px wide (median), and large ones give tens of thousands of regions"
        )
    elif large := costly_pictures(task.dataset.images):
        choices.put(name, _ILSVRC_WIDTH_PX, "the authors', for ILSVRC")
        choices.say(
            f"proposals: searched at a width of {_ILSVRC_WIDTH_PX} px, as the authors do for ILSVRC: {len(large)} of "
            f"the {len(widths)} images are much larger than the others, and would have up to tens of thousands each"
        )
    elif lower < _NARROW_PX and task.preset != "paper":
        choices.put(name, _ILSVRC_WIDTH_PX, "ours, for small pictures; the paper: null for VOC")
        choices.say(
            f"proposals: searched at a width of {_ILSVRC_WIDTH_PX} px (ours): a quarter of the images are narrower "
            f"than {lower:.0f} px, where selective search finds few regions"
        )
    else:
        choices.put(name, None, "the paper's, for VOC; 500 for ILSVRC")
        choices.say(f"proposals: searched at the images' own width (median {middle:.0f} px), as the paper does for VOC")
    if task.preset == "small":
        choices.put("proposals.max_proposals", _REGIONS_OF_SMALL, "ours, for a first look; the authors keep all (null)")
        choices.say(
            f"proposals: the best {_REGIONS_OF_SMALL:,} of an image (ours, for a first look; the authors keep all); "
            "the stage tells what recall that costs"
        )
    else:
        choices.put("proposals.max_proposals", None, "the authors'")


def _network(choices: Choices, task: Task) -> None:
    settings, spec = task.settings, task.network.input
    for name, value in settings.model_dump(mode="json").items():
        choices.put(f"network.{name}", value)
    choices.comments |= {
        "network.name": "the paper: caffenet (T-Net), vgg16 (O-Net)",
        "network.input": "null: the file's own, or the network's",
        "network.pool5_grid": "null: the network's own",
        "network.dtype": "the paper: float32",
    }
    order = {"rgb": "RGB", "bgr": "BGR"}[spec.color_order]
    choices.say(
        f"network: {settings.name}, weights {settings.weights}; input {order}, 0 to {spec.value_range:g}, "
        f"{spec.side_px} px ({task.source})"
    )
    if settings.dtype == "bfloat16":
        choices.say("arithmetic: bfloat16, which this CPU computes about twice as fast (the paper: float32)")


def _pretrain(choices: Choices, task: Task) -> None:
    if not task.from_scratch:  # the group is not read
        return
    built_in = task.dataset.name == BUILT_IN
    choices.put("pretrain.mirror", not built_in, "a mirrored digit is no digit" if built_in else "")
    choices.put("pretrain.recolour", built_in, "for the built-in digits")
    choices.put("pretrain.colour_std", 0 if built_in else 0.1, "photographs: 0.1 (Krizhevsky et al.)")
    if task.settings.name == "small":  # as the demo's
        choices.put("pretrain.iterations", 300)
        choices.put("pretrain.step", 120, "or a list of the iterations at which the rate drops")


def _finetune(choices: Choices, task: Task) -> None:
    """Choose the schedule by the number of training images, and the rates by where the weights come from."""
    images = len(task.dataset.split("train"))
    windows = _WINDOWS_OF_O_NET if task.settings.name == "vgg16" else _WINDOWS
    if task.preset == "small":
        windows = (8, 24)
    if task.preset == "paper":
        iterations, step = 70_000, 20_000
        why = "the paper's 70,000 iterations, the rate divided by 10 every 20,000: hours on a GPU, weeks on a CPU"
        if windows != _WINDOWS:
            why += f"; {sum(windows)} windows each, {windows[0]} of them positive, as in the authors' code for O-Net"
    else:
        each, least, most = (2, 100, 300) if task.preset == "small" else (4, 300, 20_000)
        iterations = min(max(each * images, least), most)
        step = max(1, 2 * iterations // 3)
        why = (
            f"{iterations} iterations of {sum(windows)} windows, {each} an image between {least} and {most} (ours; "
            "the paper: 70,000 of 128, a step every 20,000)"
        )
    every = min(max(iterations // 5, 1), 1000)
    choices.comments["finetune"] = ""
    own = task.preset == "paper"
    comment = "the paper's" if own else "ours, by the images; the paper: 70000"
    as_it_is = not own and not task.from_scratch and task.settings.name in _RATES_OF_LARGE_MAPS
    if as_it_is and "fc7" not in task.network.layers:
        iterations, comment = 0, "ours: off (docs/measured.md); the paper: 70000"
        why = (
            f"off (ours): {task.settings.name} has no fc7, and its pool5 served a few hundred photographs better as it "
            "came (docs/measured.md); finetune.iterations turns it on"
        )
    choices.put("finetune.iterations", iterations, comment)
    choices.put("finetune.step", step, "the authors' code's" if own else "ours; the authors' code: 20000; or a list")
    for name, here, paper in zip(("fg", "bg"), windows, _WINDOWS, strict=True):
        whose = "the authors' code's, for O-Net" if windows == _WINDOWS_OF_O_NET else "ours"
        comment = "the paper's" if here == paper else f"{whose}; the paper: {paper}"
        choices.put(f"finetune.{name}_per_batch", here, comment)
    choices.put("finetune.eval_every", every)
    choices.put("finetune.checkpoint_every", every)
    mirror = task.dataset.name != BUILT_IN
    choices.put("finetune.mirror", mirror, "the paper's" if mirror else "a mirrored digit is no digit")
    lr, factor, whose = _finetune_rates(task)
    papers = (0.001, 10)
    choices.put("finetune.lr", lr, "the paper's" if lr == papers[0] else "ours, for this network; the paper: 0.001")
    comment = "the authors' code's" if factor == papers[1] else "ours, for this network; the authors' code: 10"
    choices.put("finetune.new_layer_lr", factor, comment)
    choices.say(f"fine-tuning: {why}; lr {lr:g}, {factor} times that in the new last layer ({whose})")


def _finetune_rates(task: Task) -> tuple[float, float, str]:
    """Choose the rate and the factor of the new last layer; the third is whose they are."""
    name = task.settings.name
    if task.from_scratch and name == "small" and task.preset != "paper":
        return 0.01, 3, "ours, for the small network"
    if not task.from_scratch and name in _RATES_OF_LARGE_MAPS:
        return *_RATES_OF_LARGE_MAPS[name], f"ours: at the paper's 0.001 {name}, whose last map is large, diverges"
    return 0.001, 10, "the paper's and the authors' code's, for weights trained before"


def _features(choices: Choices, task: Task) -> None:
    side = task.network.input.side_px
    context = round(_CONTEXT_PX * side / CAFFE_SIDE_PX)
    choices.put("features.layers", task.layers)
    choices.put("region_features.layer", "fc6" if "fc6" in task.layers else task.svm_layer)
    most, whose = (3, "O2P's") if task.preset == "paper" else (None, "ours: all above the threshold; O2P: 3")
    choices.put("paste.max_segments", most, whose)
    choices.put("features.context_px", context, "the paper: 16 of 227 px")
    choices.put("classify_svm.layers", [name for name in task.network.layers if name != "fc8"])
    choices.say(f"crops: warped, with {context} px of context at {side} px (the paper: 16 at 227)")


def _models(choices: Choices, task: Task) -> None:
    choices.put("svm.layer", task.svm_layer, "the paper: fc7")
    choices.put("bbox.layer", "pool5", "the paper's")
    if task.svm_layer == "fc7":
        choices.say("layers: SVMs on fc7, boxes regressed from pool5 (the paper's)")
    else:
        has = "" if "fc7" in task.network.layers else f": {task.settings.name} has no fc7"
        choices.say(f"layers: SVMs on {task.svm_layer} (the paper: fc7{has}), boxes regressed from pool5 (the paper's)")


def _detections(choices: Choices, task: Task) -> None:
    choose_limits(choices, task, DetectSettings())


def choose_limits(choices: Choices, task: Task, own: DetectSettings) -> None:
    """Choose how many candidates of a class are kept: the authors' ``own`` limits, more where a class is crowded."""
    means = objects_per_image(task.dataset.split("train"), len(task.dataset.classes))
    most = max(means, default=0.0)
    if most * CANDIDATES_PER_OBJECT[own.order] <= min(own.max_per_class, own.rank_factor):
        choices.put("detect.max_per_class", own.max_per_class)
        choices.put("detect.rank_factor", own.rank_factor)
        return
    crowded = f"{task.dataset.classes[int(np.argmax(means))]!r} has {most:.3g} objects in an image of it"
    if task.preset == "paper":
        choices.put("detect.max_per_class", own.max_per_class)
        choices.put("detect.rank_factor", own.rank_factor)
        choices.say(
            f"detections: the authors' limits, {own.max_per_class} an image and rank {own.rank_factor}, made for a few "
            f"objects an image; class {crowded}: expect many to be missed"
        )
        return
    limit = candidates_wanted(most, own.order)
    choices.put("detect.max_per_class", max(limit, own.max_per_class))
    choices.put("detect.rank_factor", max(limit, own.rank_factor))
    what, kept = "regions, many per object", f"{limit} regions of a class enter suppression (ours)"
    if own.order == "suppress_then_cut":
        what, kept = "boxes, about two per object", f"{limit} boxes of a class are kept after suppression (ours)"
    choices.say(
        f"detections: {kept}: class {crowded}, and the authors' {own.max_per_class} and {own.rank_factor} count {what}"
    )


def _memory(choices: Choices, task: Task) -> None:
    """Choose bounds on memory, and tell what the features will take on the disk."""
    machine_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    limit = min(2048, max(machine_mb // 4 // 256 * 256, 256))
    pixels_mb = sum(_bytes(image) for image in task.dataset.split("train")) // 2**20
    cache = min(1024, (pixels_mb // 64 + 1) * 64)
    choices.put("svm.memory_limit_mb", limit)
    choices.put("bbox.memory_limit_mb", limit)
    choices.put("finetune.image_cache_mb", cache)
    numbers = sum(task.network.feature_dim(layer) for layer in task.layers)
    disk = 2 * _REGIONS * numbers * len(task.dataset.images)
    choices.say(
        f"memory: at most {limit} MB for SVMs and boxes each, {cache} MB of images while fine-tuning; disk: "
        f"{format_bytes(disk)} of features before compression for every {_REGIONS:,} regions an image"
    )


def _bytes(image: ImageRecord) -> int:
    return 3 * image.width * image.height


def put_network(choices: Choices, task: Task, settings: NetworkSettings, project: Path, papers: str) -> None:
    """Choose a detector's network, its pre-training and what classes are alike: all but the head as R-CNN has them.

    Args:
        settings: the network with the head that this detector needs.
        papers: the networks of its paper, for the comment.

    Raises ``StageError`` where the weights file does not take such a head.
    """
    for name, value in settings.model_dump(mode="json").items():
        choices.put(f"network.{name}", value)
    choices.comments |= {"network.name": f"the paper: {papers}", "pretrain": "as R-CNN's"}
    root = rcnn_choices(task)
    for name, value in root.values.items():
        if name.startswith("pretrain.") or name == "evaluate.similar_classes":
            choices.put(name, value, root.comments.get(name))
    if not task.from_scratch:
        planned_network(settings, project)  # whether the file takes such a head
