"""The table of architectures: constructor, input convention, named layers, last layer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from . import caffenet, small, zf5
from .spec import InputSpec, Triple


@dataclass(frozen=True)
class HeadPlace:
    """Where an architecture takes a pyramid and new fully connected layers (:mod:`.fc_head`), in the place of its own
    if it has any: the module paths of the two, and the channels of its conv5. Its ``forward`` calls them in this order,
    behind conv5."""

    pool5: str
    fc: str
    channels: int


@dataclass(frozen=True)
class Architecture:
    """One network: ``make(n_outputs)``, its own input convention, and where its layers are.

    ``nodes`` maps layer names to torchvision feature-extraction nodes; ``head`` is the module path of the last layer,
    ``rectifier`` of a ReLU that follows it. ``conv5`` is the node of the last feature map before pooling, after its
    ReLU. ``fc6`` is the module path of the layer that takes the flattened pool5 (None: there is no such layer).
    ``grid`` is the grid that ``pool5`` is averaged to unless the parameter says otherwise (None: left as is). ``place``
    is where it takes other fully connected layers (None: it has got them).
    """

    make: Callable[[int], nn.Module]
    input: InputSpec
    nodes: Mapping[str, str]
    head: str
    conv5: str
    fc6: str | None = None
    grid: int | None = None
    rectifier: str | None = None
    place: HeadPlace | None = None


def _torchvision(name: str) -> Callable[[int], nn.Module]:
    def make(n_outputs: int) -> nn.Module:
        import torchvision

        model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=n_outputs)
        return model

    return make


IMAGENET: tuple[Triple, Triple] = (
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
)  # torchvision's, RGB in [0, 1]
CAFFE_MEAN: Triple = (104.0, 117.0, 123.0)  # BGR; a constant where the authors subtract a mean image
_ZF_MEAN: Triple = (128.0, 128.0, 128.0)  # BGR

ARCHITECTURES: dict[str, Architecture] = {
    "small": Architecture(
        small.SmallNet,
        InputSpec(small.SIDE_PX, "rgb", 1.0, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        {"pool5": "features.12", "fc6": "classifier.2", "fc7": "classifier.5", "fc8": "classifier.6"},
        "classifier.6",
        conv5="features.11",
        fc6="classifier.1",
        place=HeadPlace("features.12", "classifier", 64),
    ),
    "alexnet": Architecture(
        _torchvision("alexnet"),
        InputSpec(224, "rgb", 1.0, *IMAGENET),
        {"pool5": "features.12", "fc6": "classifier.2", "fc7": "classifier.5", "fc8": "classifier.6"},
        "classifier.6",
        conv5="features.11",
        fc6="classifier.1",
        place=HeadPlace("features.12", "classifier", 256),
    ),
    "caffenet": Architecture(
        caffenet.CaffeNet,
        InputSpec(caffenet.SIDE_PX, "bgr", 255.0, CAFFE_MEAN),
        {"pool5": "features.14", "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6"},
        "classifier.6",
        conv5="features.13",
        fc6="classifier.0",
        place=HeadPlace("features.14", "classifier", 256),
    ),
    "zf5": Architecture(
        zf5.ZF5,
        InputSpec(zf5.SIDE_PX, "bgr", 255.0, _ZF_MEAN),
        {"pool5": "features.14", "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6"},
        "classifier.6",
        conv5="features.13",
        fc6="classifier.0",
        place=HeadPlace("features.14", "classifier", 256),
    ),
    "vgg16": Architecture(
        _torchvision("vgg16"),
        InputSpec(224, "rgb", 1.0, *IMAGENET),
        {"pool5": "features.30", "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6"},
        "classifier.6",
        conv5="features.29",
        fc6="classifier.0",
        place=HeadPlace("features.30", "classifier", 512),
    ),
    "squeezenet1_0": Architecture(
        _torchvision("squeezenet1_0"),
        InputSpec(224, "rgb", 1.0, *IMAGENET),
        {"pool5": "features.12.cat", "fc8": "flatten"},
        "classifier.1",
        conv5="features.12.cat",
        grid=3,
        rectifier="classifier.2",
        place=HeadPlace("features.13", "classifier", 512),
    ),
    "resnet50": Architecture(
        _torchvision("resnet50"),
        InputSpec(224, "rgb", 1.0, *IMAGENET),
        {"pool5": "layer4.2.relu_2", "fc8": "fc"},
        "fc",
        conv5="layer4.2.relu_2",
        grid=1,
        place=HeadPlace("avgpool", "fc", 2048),
    ),
}
