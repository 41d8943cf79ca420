"""The table of architectures: input convention, named layers, last layer.

Imports nothing heavy, so that parameters are checked against it before any network is built; :mod:`.network` builds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from .spec import InputSpec, Triple

ArchitectureName = Literal[
    "small",
    "alexnet",
    "caffenet",
    "zf5",
    "zf",
    "overfeat_fast",
    "overfeat_accurate",
    "vgg16",
    "squeezenet1_0",
    "resnet50",
]
NAMED_LAYERS = ("pool5", "fc6", "fc7", "fc8")  # from the input on; networks without fully connected layers lack two


@dataclass(frozen=True)
class HeadPlace:
    """The place where an architecture takes a pyramid and new fully connected layers (:mod:`.spp_head`).

    Any of its own go. ``pool5`` and ``fc`` are module paths, which its ``forward`` calls in this order behind conv5;
    ``channels`` are conv5's.
    """

    pool5: str
    fc: str
    channels: int


@dataclass(frozen=True)
class Architecture:
    """One network: its own input convention, and where its layers are.

    ``nodes`` maps layer names to torchvision feature-extraction nodes; ``head`` is the module path of the last layer,
    ``rectifier`` of a ReLU that follows it. ``conv5`` is the node of the last feature map before pooling, after its
    ReLU. ``fc6`` is the module path of the layer that takes the flattened pool5 (None: there is no such layer).
    ``grid`` is the grid that ``pool5`` is averaged to unless the parameter says otherwise (None: left as is). ``place``
    is where it takes other fully connected layers (None: it has got them). ``last_bias`` is what the last layer's bias
    starts at where it is trained from scratch.
    """

    input: InputSpec
    nodes: Mapping[str, str]
    head: str
    conv5: str
    fc6: str | None = None
    grid: int | None = None
    rectifier: str | None = None
    place: HeadPlace | None = None
    last_bias: float = 0.0

    def with_fc_head(self) -> "Architecture":
        """Describe the network after :func:`.spp_head.put_fc_head`: it has pool5, fc6, fc7 and fc8, as CaffeNet has."""
        if self.place is None:
            return self
        fc = self.place.fc  # norm; layer, ReLU, dropout; layer, ReLU, dropout; layer
        places = (self.place.pool5, f"{fc}.2", f"{fc}.5", f"{fc}.7")
        return replace(
            self,
            nodes=dict(zip(NAMED_LAYERS, places, strict=True)),
            head=f"{fc}.7",
            fc6=f"{fc}.1",
            grid=None,
            rectifier=None,
            place=None,
            last_bias=0.0,
        )


def architecture_of(name: str, fc: Sequence[int] | None) -> Architecture:
    """Look up an architecture, as it is with new fully connected layers where ``fc`` (``network.fc``) is given."""
    own = ARCHITECTURES[name]
    return own if fc is None else own.with_fc_head()


IMAGENET: tuple[Triple, Triple] = (
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
)  # torchvision's, RGB in [0, 1]
CAFFE_MEAN: Triple = (104.0, 117.0, 123.0)  # BGR; a constant where the authors subtract a mean image
_ZF_MEAN: Triple = (128.0, 128.0, 128.0)  # BGR, SPP-net's code
_FASTER_MEAN: Triple = (102.9801, 115.9465, 122.7717)  # BGR, py-faster-rcnn; the MATLAB program has a mean image
_OVERFEAT_MEAN, _OVERFEAT_STD = (118.380948,) * 3, (61.896913,) * 3  # RGB, the authors' code: one pair for all channels

_ZF5 = Architecture(
    InputSpec(224, "bgr", 255.0, _ZF_MEAN),
    {"pool5": "features.14", "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6"},
    "classifier.6",
    conv5="features.13",
    fc6="classifier.0",
    place=HeadPlace("features.14", "classifier", 256),
    last_bias=1.0,  # Zeiler_conv5.prototxt
)
ARCHITECTURES: dict[str, Architecture] = {
    "small": Architecture(
        InputSpec(64, "rgb", 1.0, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        {"pool5": "features.12", "fc6": "classifier.2", "fc7": "classifier.5", "fc8": "classifier.6"},
        "classifier.6",
        conv5="features.11",
        fc6="classifier.1",
        place=HeadPlace("features.12", "classifier", 64),
    ),
    "alexnet": Architecture(
        InputSpec(224, "rgb", 1.0, *IMAGENET),
        {"pool5": "features.12", "fc6": "classifier.2", "fc7": "classifier.5", "fc8": "classifier.6"},
        "classifier.6",
        conv5="features.11",
        fc6="classifier.1",
        place=HeadPlace("features.12", "classifier", 256),
    ),
    "caffenet": Architecture(
        InputSpec(227, "bgr", 255.0, CAFFE_MEAN),
        {"pool5": "features.14", "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6"},
        "classifier.6",
        conv5="features.13",
        fc6="classifier.0",
        place=HeadPlace("features.14", "classifier", 256),
    ),
    "zf5": _ZF5,
    "zf": replace(_ZF5, input=InputSpec(224, "bgr", 255.0, _FASTER_MEAN)),
    "overfeat_fast": Architecture(
        InputSpec(231, "rgb", 255.0, _OVERFEAT_MEAN, _OVERFEAT_STD),
        {"pool5": "features.12", "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6"},
        "classifier.6",
        conv5="features.11",
        fc6="classifier.0",
        place=HeadPlace("features.12", "classifier", 1024),
    ),
    "overfeat_accurate": Architecture(
        InputSpec(221, "rgb", 255.0, _OVERFEAT_MEAN, _OVERFEAT_STD),
        {"pool5": "features.14", "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6"},
        "classifier.6",
        conv5="features.13",
        fc6="classifier.0",
        place=HeadPlace("features.14", "classifier", 1024),
    ),
    "vgg16": Architecture(
        InputSpec(224, "rgb", 1.0, *IMAGENET),
        {"pool5": "features.30", "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6"},
        "classifier.6",
        conv5="features.29",
        fc6="classifier.0",
        place=HeadPlace("features.30", "classifier", 512),
    ),
    "squeezenet1_0": Architecture(
        InputSpec(224, "rgb", 1.0, *IMAGENET),
        {"pool5": "features.12.cat", "fc8": "flatten"},
        "classifier.1",
        conv5="features.12.cat",
        grid=3,
        rectifier="classifier.2",
        place=HeadPlace("features.13", "classifier", 512),
    ),
    "resnet50": Architecture(
        InputSpec(224, "rgb", 1.0, *IMAGENET),
        {"pool5": "layer4.2.relu_2", "fc8": "fc"},
        "fc",
        conv5="layer4.2.relu_2",
        grid=1,
        place=HeadPlace("avgpool", "fc", 2048),
    ),
}
