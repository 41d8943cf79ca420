"""One wrapper around every architecture: named layers, input convention, a replaceable last layer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from cache.errors import StageError
from cache.text import nearest

from .architectures import ARCHITECTURES, architecture_of
from .caffenet import CaffeNet
from .graph import extraction_graph, fc_graph, node_names
from .overfeat import OverFeatAccurate, OverFeatFast
from .pyramid import put_module, put_pyramid
from .small import SmallNet
from .spec import InputSpec
from .spp_head import LAST_LAYER_STD, put_fc6, put_fc_head
from .zf5 import ZF, ZF5

# The architectures that torchvision does not have.
_OWN: Mapping[str, Callable[[int], nn.Module]] = {
    "small": SmallNet,
    "caffenet": CaffeNet,
    "zf5": ZF5,
    "zf": ZF,
    "overfeat_fast": OverFeatFast,
    "overfeat_accurate": OverFeatAccurate,
}


class Network(nn.Module):
    """A classification network whose inner layers can be read by name.

    ``layers`` are the named ones: ``pool5``, ``fc6`` and ``fc7`` where the network has them, and ``fc8``, the logits.
    Any node name of ``torchvision.models.feature_extraction`` is a layer too. ``trunk`` is the bare module; its state
    dict has the names that torchvision gives it.
    """

    def __init__(
        self,
        name: str,
        trunk: nn.Module,
        spec: InputSpec,
        pool5_grid: int | None,
        n_outputs: int,
        pyramid: tuple[int, ...] | None = None,
        fc: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.input = spec
        self.pool5_grid = pool5_grid
        self.pyramid = pyramid  # levels of the spatial pyramid in pool5's place
        self.fc = fc  # outputs of an fc6 and fc7 that the architecture does not have by itself
        self.n_outputs = n_outputs
        self.map_channels: int | None = None  # that fc6 takes, where they are not conv5's
        self.trunk = trunk
        self._architecture = architecture_of(name, fc)
        self.rectified = self._architecture.rectifier is not None  # whether a ReLU cuts negative logits
        self._graphs: dict[tuple[str, ...], Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        # copies make their own graphs: a graph shares this network's layers
        return {**self.__dict__, "_graphs": {}}

    @property
    def layers(self) -> tuple[str, ...]:
        """The named layers, from the input on."""
        return tuple(self._architecture.nodes)

    def forward(self, x: Tensor) -> Tensor:
        """Map crops [B, 3, side, side], as ``input`` has them, to logits [B, n_outputs]."""
        logits: Tensor = self.trunk(x)
        return logits

    def extract(self, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Compute activations of some layers, each [B, d], flattened as (c, y, x); evaluation mode only.

        They are taken after the ReLU that follows the layer where it has one; dropout does nothing (both torch and
        Caffe scale while training). Raises ``StageError`` for an unknown layer.
        """
        if self.training:
            raise RuntimeError("extract reads a network in evaluation mode: call eval() first")
        outputs = self.graph(layers)(x)
        return {layer: self.finish(layer, outputs[self.node(layer)]) for layer in layers}

    def finish(self, layer: str, activation: Tensor) -> Tensor:
        """Make a node's raw output the layer's feature [B, d]: averaged to the grid if it is pool5, and flattened."""
        if layer == "pool5" and self.pool5_grid is not None:
            activation = functional.adaptive_avg_pool2d(activation, self.pool5_grid)
        # channels_last memory must not leak into the order: flatten of a [B, c, y, x] tensor is logical (c, y, x)
        return torch.flatten(activation, 1)

    def graph(self, layers: Sequence[str]) -> nn.Module:
        """Return the part of the network that the layers need: images to a dict of node outputs. Shares the weights."""
        nodes = tuple(sorted({self.node(layer) for layer in layers}))
        if nodes not in self._graphs:
            self._graphs[nodes] = extraction_graph(self.trunk, nodes)
        graph: nn.Module = self._graphs[nodes]
        return graph

    def fc_graph(self, layers: Sequence[str]) -> nn.Module:
        """Return the part of the network from the flattened pool5 to the layers: [B, d] to a dict of node outputs.

        Shares the weights. Raises ``StageError`` where there is no fc6, and for a layer that does not come after it.
        """
        if self._architecture.fc6 is None:
            raise StageError(
                f"network {self.name} has no fully connected layer that takes pool5; set network.pyramid and "
                "network.fc (such as [1, 2, 3, 6] and [1024, 1024]) to give it new ones"
            )
        nodes = sorted({self.node(layer) for layer in layers})
        try:
            return fc_graph(self.trunk, nodes)
        except ValueError as error:
            raise StageError(f"network {self.name}: node {error} does not come after pool5") from None

    def node(self, layer: str) -> str:
        """Return the feature-extraction node of a layer; ``StageError`` naming the nearest if there is none."""
        named = self._architecture.nodes
        if layer in named:
            return named[layer]
        nodes = node_names(self.trunk)
        if layer in nodes:
            return layer
        raise StageError(
            f"network {self.name} has no layer {layer!r}{nearest(layer, [*named, *nodes], most=3)}; its named layers "
            f"are {', '.join(named)}, and any of its {len(nodes)} nodes can be named as well"
        )

    def before_relu(self, layer: str) -> str:
        """Return the node whose output a layer's own ReLU takes; ``StageError`` where no ReLU ends the layer.

        Such a ReLU is a module of its own behind fc6 or fc7, with nothing beside it; fc8 and pool5 have none.
        """
        node, nodes = self.node(layer), node_names(self.trunk)
        if not isinstance(dict(self.trunk.named_modules()).get(node), nn.ReLU):
            able = [name for name in self.layers if name in ("fc6", "fc7")]
            raise StageError(
                f"layer {layer} of network {self.name} does not end in a ReLU, so there is nothing before it"
                + (f"; those that do are {' and '.join(able)}" if able else "")
            )
        return nodes[nodes.index(node) - 1]

    @property
    def conv5(self) -> str:
        """The feature-extraction node of the last feature map before pooling, after its ReLU."""
        return self._architecture.conv5

    @property
    def rectifier(self) -> str | None:
        """The module path of a ReLU that follows the last layer; None where there is none."""
        return self._architecture.rectifier

    def feature_dim(self, layer: str) -> int:
        """Return the length d of a layer's feature, from a forward pass of one empty crop."""
        like = next(self.parameters())
        side = self.input.side_px
        with torch.inference_mode():
            outputs = self.graph([layer])(torch.zeros(1, 3, side, side, dtype=like.dtype, device=like.device))
        return int(self.finish(layer, outputs[self.node(layer)]).shape[1])

    def classifier_parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters of the last layer (fc8)."""
        return self.trunk.get_submodule(self._architecture.head).parameters()

    def new_head(self, n_outputs: int, generator: torch.Generator, bias: float | None = None) -> None:
        """Replace the last layer: weights N(0, 0.01), as the authors' training files have it.

        Its bias starts at ``bias`` (their fine-tuning files: 0 for R-CNN, 1 for SPP-net), None: at the architecture's
        own (1 for ZF-5). The new logits may be negative, also where the architecture rectifies its own
        (squeezenet1_0): of a few classes one that starts below 0 would never get a gradient again.
        """
        old = self.trunk.get_submodule(self._architecture.head)
        new: nn.Linear | nn.Conv2d
        if isinstance(old, nn.Conv2d):
            new = nn.Conv2d(old.in_channels, n_outputs, 1)
        elif isinstance(old, nn.Linear):
            new = nn.Linear(old.in_features, n_outputs)
        else:
            raise TypeError(f"last layer of {self.name} is a {type(old).__name__}")
        with torch.no_grad():
            new.weight.normal_(0, LAST_LAYER_STD, generator=generator)
            nn.init.constant_(new.bias, self._architecture.last_bias if bias is None else bias)  # type: ignore[arg-type]
        new.to(device=old.weight.device, dtype=old.weight.dtype)
        new.train(old.training)
        put_module(self.trunk, self._architecture.head, new)
        self.n_outputs = n_outputs
        self.drop_rectifier()

    @property
    def fc6_channels(self) -> int:
        """Channels of the feature map that fc6 takes."""
        place = ARCHITECTURES[self.name].place
        assert place is not None  # what the table has before any head is put there
        return place.channels if self.map_channels is None else self.map_channels

    def take_channels(self, channels: int, generator: torch.Generator | None) -> None:
        """Replace the fc6 of ``fc`` by one that takes a map of so many channels; fc7 and the last layer stay.

        The network no longer runs from end to end: something else pools that map. ``StageError`` without ``fc``.
        """
        place = ARCHITECTURES[self.name].place
        if self.fc is None or self.pyramid is None or place is None:
            raise StageError(
                f"fc6 of network {self.name} takes the {self.fc6_channels} channels of its last map; set "
                "network.pyramid: [7] and network.fc: [1024, 1024] to give it new layers"
            )
        device = str(next(self.parameters()).device)
        with _drawn_from(generator):
            put_fc6(self.trunk, place, channels * sum(n * n for n in self.pyramid), device)
        self.map_channels = channels
        self._graphs.clear()

    def drop_rectifier(self) -> None:
        """Let logits be negative; nothing where the architecture has no ReLU after its last layer."""
        if self._architecture.rectifier is not None:
            put_module(self.trunk, self._architecture.rectifier, nn.Identity())
            self.rectified = False
        self._graphs.clear()


def build(
    name: str,
    n_outputs: int,
    *,
    generator: torch.Generator | None = None,
    pool5_grid: int | None = None,
    pyramid: Sequence[int] | None = None,
    fc: Sequence[int] | None = None,
    spec: InputSpec | None = None,
    device: str = "cpu",
) -> Network:
    """Build a network with random weights.

    Args:
        generator: What the weights are drawn from; None: torch's global generator.
        pool5_grid: Grid that pool5 is averaged to; None: the architecture's own (the untouched 256 x 6 x 6 of AlexNet
            and the like, 3 for squeezenet1_0, so 4,608-d, 1 for resnet50, so 2,048-d).
        pyramid: Levels of a spatial pyramid in pool5's place (:mod:`.pyramid`).
        fc: Outputs of a new fc6 and fc7 behind it (:mod:`.spp_head`).
        spec: Input convention; None: the architecture's own.
        device: Where the weights are made; "meta" makes none at all.

    Raises ``StageError`` for an unknown name, and for a pyramid that no fc6 takes.
    """
    if name not in ARCHITECTURES:
        raise StageError(
            f"network.name: unknown network {name!r}{nearest(name, ARCHITECTURES)}; there are: "
            f"{', '.join(ARCHITECTURES)}"
        )
    architecture = ARCHITECTURES[name]
    with _drawn_from(generator), torch.device(device):
        trunk = _trunk(name, n_outputs)
        if pyramid is not None and fc is None:
            if architecture.fc6 is None:
                raise StageError(
                    f"network.pyramid: {name} has no fc6 to take it; set network.fc to the outputs of a new fc6 and "
                    "fc7, such as [1024, 1024], or network.pyramid to null"
                )
            put_pyramid(trunk, architecture.nodes["pool5"], architecture.fc6, pyramid)
    grid = architecture.grid if pool5_grid is None else pool5_grid
    network = Network(name, trunk, spec or architecture.input, grid, n_outputs)
    if fc is not None:
        return add_fc_head(network, pyramid or (), fc, generator)
    network.pyramid = None if pyramid is None else tuple(pyramid)
    return network


def add_fc_head(
    network: Network, pyramid: Sequence[int], fc: Sequence[int], generator: torch.Generator | None
) -> Network:
    """Put a pyramid of these levels and new fc6, fc7 (of ``fc`` outputs) and fc8 behind a network's conv5.

    Its convolutional layers are those of ``network``, which is used up; fully connected layers that it has go. Raises
    ``StageError`` where there is no level.
    """
    place = ARCHITECTURES[network.name].place
    assert place is not None  # every architecture has one until it is filled
    if not pyramid:
        raise StageError("network.fc needs a pyramid to take; set network.pyramid, or network.fc to null")
    device = str(next(network.parameters()).device)
    with _drawn_from(generator):
        put_fc_head(network.trunk, place, pyramid, fc, network.n_outputs, device)
    made = Network(network.name, network.trunk, network.input, None, network.n_outputs, tuple(pyramid), tuple(fc))
    return made.train(network.training)


def _trunk(name: str, n_outputs: int) -> nn.Module:
    """Construct an architecture's bare module, ours or torchvision's; weights from torch's global generator."""
    if name in _OWN:
        return _OWN[name](n_outputs)
    trunk: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=n_outputs)
    return trunk


@contextmanager
def _drawn_from(generator: torch.Generator | None) -> Iterator[None]:
    """Seed torch's global generator, which constructors draw from, by ``generator``, and restore it afterwards."""
    with torch.random.fork_rng(devices=[], enabled=generator is not None):
        if generator is not None:
            torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator, device="cpu")))
        yield
