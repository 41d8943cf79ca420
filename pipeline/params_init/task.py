"""What parameters are chosen for: the dataset's splits, the network, how its input looks; and what was chosen."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from cache.errors import ParamsError
from cache.text import nearest
from manifests import Dataset
from manifests.select import no_class
from stages.networks.architectures import ARCHITECTURES, CAFFE_MEAN, IMAGENET
from stages.networks.network import Network
from stages.networks.settings import InputSettings, NetworkSettings
from stages.networks.weights import FORMAT

Preset = Literal["small", "medium", "paper"]
Convention = Literal["caffe", "torchvision"]

CAFFE_SIDE_PX = 227  # what Caffe's networks take, the paper's among them
# Crops per forward pass on a CPU: where the activations of a batch still lie in its cache (measured; squeezenet1_0 is
# fastest at 4). Networks with large fully connected layers gain from more.
_BATCH = {"small": 32, "squeezenet1_0": 4, "resnet50": 8, "vgg16": 8}


@dataclass
class Choices:
    """Chosen values by dotted name, what to write beside each, and a line for each thing that was decided."""

    values: dict[str, Any] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    def put(self, name: str, value: Any, comment: str | None = None) -> None:
        """Choose a parameter's value; ``comment`` takes the place of the one on its line (None: that stays)."""
        self.values[name] = value
        if comment is not None:
            self.comments[name] = comment

    def say(self, line: str) -> None:
        """Tell why."""
        self.reasons.append(line)


@dataclass(frozen=True)
class Task:
    """What is to be chosen for.

    Attributes:
        dataset: the run's: its splits are called "train" and "test".
        splits: what those two are called in the registered dataset.
        settings: the network's parameters.
        network: the network that they mean, without weights.
        source: how its input convention was told, for a line.
        layer: the layer that was asked for the SVMs; None: the usual one.
        on_gpu: whether networks will run on a GPU.
        left_out: the training objects of each class that is not to be detected; None: all classes are.
    """

    dataset: Dataset
    splits: tuple[str, str]
    settings: NetworkSettings
    network: Network
    source: str
    preset: Preset
    layer: str | None
    on_gpu: bool
    left_out: Mapping[str, int] | None = None

    @property
    def from_scratch(self) -> bool:
        """Whether the network is trained on the dataset's classification set."""
        return self.settings.weights == "pretrain"

    @property
    def svm_layer(self) -> str:
        """The layer that SVMs score: fc7 as in the paper, or the last feature map of a network without one."""
        return self.layer or ("fc7" if "fc7" in self.network.layers else "pool5")

    @property
    def layers(self) -> list[str]:
        """The layers to store: all named ones but the logits, and the one asked for."""
        named = [name for name in self.network.layers if name != "fc8"]
        return named if self.svm_layer in named else [*named, self.svm_layer]


def chosen_splits(dataset: Dataset, train: str | None, test: str | None) -> tuple[str, str]:
    """Return the splits to train and to test on: those asked for, else those that have the usual names.

    Raises ParamsError, naming the splits there are, for a dataset of class folders and where none is usual.
    """
    if not dataset.has_boxes:
        raise ParamsError(
            f"dataset {dataset.name}: has one class per picture and no boxes, which detectors learn from; "
            "docs/classification.md trains on it"
        )
    asked = (("--train", train), ("--test", test))
    for option, name in asked:
        if name is not None and name not in dataset.splits:
            raise ParamsError(
                f"{option} {name}: dataset {dataset.name} has no such split{nearest(name, dataset.splits)}; it has: "
                f"{', '.join(dataset.splits)}"
            )
    usable = [name for name in dataset.splits if any(len(image.boxes) for image in dataset.split(name))]
    bare = [name for name in dataset.splits if not any(image.annotated for image in dataset.split(name))]
    test = test or next((name for name in ("test", "val") if name in usable), None)
    test = test or next((name for name in ("test", "val") if name in bare), None)
    before = ("train",) if test == "val" else ("trainval", "train")
    train = train or next((name for name in before if name in usable), None)
    if train is None or test is None:
        raise ParamsError(
            f"dataset {dataset.name}: its splits are {', '.join(dataset.splits)}, of which with objects "
            f"{', '.join(usable) or 'none'}; say which to use: --train SPLIT --test SPLIT"
        )
    return train, test


def chosen_classes(
    dataset: Dataset, train: str | tuple[str, ...], asked: Sequence[str], min_objects: int | None
) -> tuple[tuple[str, ...] | None, Mapping[str, int] | None]:
    """Return the classes to detect, and the training objects of each other one; None twice: all, none was asked for.

    Args:
        train: the split to train on, or several.
        asked: of these classes, in this order; empty: of all.
        min_objects: those that have at least so many objects to train on, where crowd regions are none.

    Raises ParamsError where a name is unknown or given twice, and where no class is left.
    """
    if not asked and min_objects is None:
        return None, None
    unknown = [f"--class {name}: {no_class(dataset, name)}" for name in asked if name not in dataset.classes]
    if unknown:
        raise ParamsError("\n".join(unknown))
    twice = [name for i, name in enumerate(asked) if name in asked[:i]]
    if twice:
        raise ParamsError(f"--class {twice[0]}: is given twice")
    splits = {train} if isinstance(train, str) else set(train)
    counts = np.zeros(len(dataset.classes), int)
    for image in dataset.images:
        if splits & set(image.splits):
            np.add.at(counts, image.labels[~image.crowd], 1)
    objects = dict(zip(dataset.classes, counts.tolist(), strict=True))
    least = 0 if min_objects is None else min_objects
    kept = tuple(name for name in asked or dataset.classes if objects[name] >= least)
    if not kept:
        among = f"--min-objects {least}: no class" + (" of those asked for" if asked else "")
        most = max(asked or dataset.classes, key=objects.__getitem__)
        raise ParamsError(
            f"{among} has so many in split {' + '.join(sorted(splits))}; most has {most!r}: {objects[most]}"
        )
    return kept, {name: number for name, number in objects.items() if name not in kept}


def chosen_input(
    name: str, where: str, meta: Mapping[str, str], asked: Convention | None
) -> tuple[InputSettings | None, str]:
    """Return the input convention of a weights file, None where that is the file's or the network's own, and who says.

    Raises ParamsError where nobody does: with another convention nothing fails, and everything is worse.
    """
    if meta.get("format") == FORMAT:
        if asked is not None:
            raise ParamsError(f"--input {asked}: {where} says its own input convention; leave the option out")
        return None, "its metadata says so"
    convention = asked or _told(meta)
    if convention is None:
        raise ParamsError(
            f"{where}: does not say what input its network expects; say it: --input torchvision (RGB, 0 to 1, "
            "ImageNet's mean and deviation: trained with PyTorch), or --input caffe (BGR, 0 to 255, minus 104, 117, "
            "123: converted from Caffe). The page where the file comes from tells which. Whoever guesses wrong gets "
            "no error, only poor scores"
        )
    return _input_of(name, convention), f"--input {asked}" if asked else "its metadata says so"


def _told(meta: Mapping[str, str]) -> Convention | None:
    """Return the convention that a file's metadata speak of, in whatever words."""
    text = " ".join(meta.values()).lower()
    if "bgr" in text and "104" in text and "123" in text:
        return "caffe"
    return "torchvision" if "rgb" in text and "0.485" in text and "0.229" in text else None


def _input_of(name: str, convention: Convention) -> InputSettings | None:
    own = ARCHITECTURES[name].input
    if convention == "caffe":
        if own.color_order == "bgr":
            return None
        side = CAFFE_SIDE_PX if name in ("alexnet", "squeezenet1_0") else None  # Caffe's models take 227 px
        return InputSettings(color_order="bgr", value_range=255, mean=CAFFE_MEAN, side_px=side)
    if (own.color_order, own.value_range, (own.mean, own.std)) == ("rgb", 1.0, IMAGENET):
        return None
    return InputSettings(color_order="rgb", value_range=1, mean=IMAGENET[0], std=IMAGENET[1])


def batch_of(name: str, on_gpu: bool) -> int:
    """Return how many crops go through the network at once."""
    return 128 if on_gpu else _BATCH.get(name, 32)


def unlike(chosen: Mapping[str, Any], present: Mapping[str, Any]) -> Iterator[str]:
    """Name those network parameters that a detector's file has otherwise than was chosen."""
    for name in ("name", "weights", "input"):
        if present.get(name) != chosen.get(f"network.{name}"):
            yield f"network.{name}"


def presets_said(preset: Preset) -> str:
    """Return what a preset is, for the file's first line."""
    return {
        "small": "small: a first look; where a value is neither the paper's nor the authors' code's, the line says so",
        "medium": "between the paper and a first look; where a value is not the paper's, its line says whose it is",
        "paper": "the paper's values, or the authors' code's where the paper is silent",
    }[preset]
