"""The network that region proposals and detections share: a trunk, an RPN's head, Fast R-CNN's, in one file.

Every training of Faster R-CNN starts from one such file and writes another; fc6 and fc7 are carried along by those that
do not use them, as the authors' programs do.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cache import atomic_write
from cache.errors import StageError
from cache.text import nearest
from stages.fast.head import FastHead, grid_of
from stages.fast.pooling import Cells, PoolingKind, RoiPooling
from stages.fast.rois import TargetNorm
from stages.networks.graph import node_names
from stages.networks.network import Network
from stages.networks.receptive_field import Geometry, map_geometry
from stages.networks.tensor_file import tensor_file, tensors_below
from stages.networks.weights import FORMAT as WEIGHTS_FORMAT
from stages.networks.weights import class_names_in, metadata, network_in, open_weights, weights_digest
from stages.rpn.anchors import Anchors, Places, authors_places, own_places
from stages.rpn.head import Objectness, RpnHead

FORMAT = "rcnn-regions-1"
_FROZEN = {"vgg16": "features.9"}  # py-faster-rcnn's models/: conv1 and conv2, with the pooling behind; others: nothing
NOTHING = "none"  # ``maps.frozen``
_MOST_CLASSES = 100_000  # of a file that is to be believed


@dataclass(frozen=True)
class RpnShape:
    """What an RPN's head was trained for; one of other anchors cannot take its weights."""

    anchors: Anchors
    centres: str
    objectness: Objectness
    channels: int

    def described(self) -> dict[str, Any]:
        """Return what it is by the names of its parameters in group ``rpn``, as JSON."""
        return {
            "scales_px": list(self.anchors.scales_px),
            "ratios": list(self.anchors.ratios),
            "anchors": self.anchors.rule,
            "centres": self.centres,
            "objectness": self.objectness,
            "channels": self.channels,
        }


@dataclass
class RegionNetwork:
    """A classification network cut at ``layer``, the map that is shared, with the heads that there are so far.

    ``norm`` is what ``fast``'s box targets were standardised by, ``pooled_by`` how its regions were pooled, ``classes``
    the names of its classes, in order.
    """

    network: Network
    layer: str
    rpn: RpnHead | None = None
    rpn_shape: RpnShape | None = None
    fast: FastHead | None = None
    norm: TargetNorm | None = None
    pooled_by: tuple[PoolingKind, Cells] = ("max", "authors")
    classes: tuple[str, ...] = ()

    @property
    def geometry(self) -> Geometry:
        """The places of the shared map's cells in the resized image."""
        return map_geometry(self.network, self.layer)

    @property
    def places(self) -> Places:
        """The points on which the anchors of the RPN's cells are centred.

        StageError where ``rpn.centres: authors`` is asked of a map of another stride than the authors' 16 px.
        """
        assert self.rpn_shape is not None
        if self.rpn_shape.centres == "own":
            return own_places(self.geometry)
        if (self.geometry.x.stride, self.geometry.y.stride) != (16, 16):
            raise StageError(
                f"rpn.centres: authors are 16 px apart, and the cells of {self.network.name}'s {self.layer} are "
                f"{self.geometry.x.stride} px; set it to own"
            )
        return authors_places(self.geometry)

    @property
    def node(self) -> str:
        """The shared map's feature-extraction node."""
        return self.network.node(self.layer)

    @cached_property
    def channels(self) -> int:
        """Channels of the shared map; StageError where the layer is no map."""
        return _channels(self.network, self.layer)

    @property
    def trunk_digest(self) -> str:
        """Digest of all that makes the shared map of an image, but for the image and its scale."""
        return weights_digest(self.network, [self.layer])

    @property
    def grid(self) -> int:
        """Bins in a row of a pooled region: as many as fc6 takes; StageError where fc6 takes another map's channels."""
        side, taken = grid_of(self.network), self.network.fc6_channels
        if self.channels != taken:
            raise StageError(
                f"maps.layer: {self.layer} of network {self.network.name} has {self.channels} channels, and its fc6 "
                f"takes {taken}; name a node with as many, or set network.pyramid: [7] and network.fc: [1024, 1024] "
                "to give it new layers"
            )
        return side

    @property
    def pooling(self) -> RoiPooling:
        """The pooling of regions for ``fast``; StageError where the map's strides differ by direction."""
        if self.geometry.x.stride != self.geometry.y.stride:
            raise StageError(f"maps.layer: the cells of {self.layer} are not square; choose another")
        return RoiPooling(self.grid, self.geometry, *self.pooled_by)

    def map_shape(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the shared map of an image of this size; StageError where it has none."""
        return _map_shape(self.network, self.layer, height, width)

    def add_rpn(self, shape: RpnShape, generator: torch.Generator) -> RpnHead:
        """Give it a new RPN head, drawn from the generator, in place of any that it has."""
        self.rpn_shape = shape
        n_anchors = len(shape.anchors)
        self.rpn = RpnHead(self.channels, n_anchors, shape.channels, shape.objectness, generator=generator)
        return self.rpn

    def fit_fc6(self, generator: torch.Generator) -> None:
        """Draw an fc6 for the shared map's channels, where the network has one of ``network.fc`` for other channels.

        Those are its last map's, as a network that is trained or loaded for classification takes them. Nothing where
        fc6 is the architecture's own; :attr:`grid` then says what does not fit.
        """
        if self.network.fc is not None and self.network.fc6_channels != self.channels:
            self.network.take_channels(self.channels, generator)

    def add_fast(self, n_classes: int, generator: torch.Generator) -> FastHead:
        """Give it new last layers behind its fc7, drawn from the generator, in place of any that it has."""
        self.fast = FastHead(self.network, n_classes, generator)
        self.norm = None
        return self.fast

    def to(self, device: str) -> None:
        """Move the network and the heads that there are to a device."""
        for part in (self.network, self.rpn, self.fast):
            if part is not None:
                part.to(device)

    def trunk(self) -> nn.Module:
        """Return the layers before the shared map: images [1, 3, h, w] to a dict of one map. Shares the weights."""
        return self.network.graph([self.layer])


class Shared(nn.Module):
    """Those parts of a region network that one training runs together; a part that is None is not of it."""

    def __init__(self, of: RegionNetwork, *, trunk: bool, rpn: bool, fast: bool) -> None:
        super().__init__()
        self.trunk = of.trunk() if trunk else None
        self.rpn = of.rpn if rpn else None
        self.fast = of.fast if fast else None
        self._node = of.node

    def map_of(self, pixels: Tensor) -> Tensor:
        """Compute the shared map [1, c, y, x] of an image [1, 3, h, w]; a map itself where there is no trunk."""
        if self.trunk is None:
            return pixels
        fmap: Tensor = self.trunk(pixels)[self._node]
        return fmap


def frozen_parameters(network: Network, layer: str, frozen: str | None) -> set[str]:
    """Name the trunk's parameters (as its graph for ``layer`` has them) that no training changes.

    Those up to the node ``frozen``, none for ``"none"``; None: the authors' choice for the network. StageError for a
    node that does not come before the layer.
    """
    upto = _FROZEN.get(network.name, NOTHING) if frozen is None else frozen
    if upto == NOTHING:
        return set()
    before = {name for name, _ in network.graph([map_node(network, upto, "maps.frozen")]).named_parameters()}
    own = {name for name, _ in network.graph([layer]).named_parameters()}
    if not before <= own:
        raise StageError(f"maps.frozen: {upto} does not come before the shared map {layer}; name a node before it")
    return before


def cut(network: Network, layer: str | None) -> RegionNetwork:
    """Cut a network at the node ``layer``, None: its last map before pooling. StageError where that is no map.

    A module's name (``layer3``) is the last node in it.
    """
    made = RegionNetwork(network, network.conv5 if layer is None else map_node(network, layer))
    _ = made.channels
    return made


def map_node(network: Network, layer: str, parameter: str = "maps.layer") -> str:
    """Return the node that ``parameter`` names: itself, or the last of the module of that name; StageError for none."""
    nodes = node_names(network.trunk)
    within = [node for node in nodes if node.startswith(f"{layer}.")]
    if not within and layer not in {*nodes, *network.layers}:
        raise StageError(
            f"{parameter}: network {network.name} has no node {layer!r}{nearest(layer, nodes, most=3)}; name the node "
            "of one of its maps"
        )
    return within[-1] if within else layer


def _channels(network: Network, layer: str) -> int:
    try:
        shape = _shape(network, layer, 224, 224)
    except RuntimeError:  # what lies behind the pooling takes one size alone
        shape = ()
    if len(shape) != 4:
        raise StageError(f"maps.layer: {layer} of network {network.name} is no feature map; name a convolution's node")
    return int(shape[1])


def _map_shape(network: Network, layer: str, height: int, width: int) -> tuple[int, int]:
    try:
        shape = _shape(network, layer, height, width)
    except RuntimeError as error:
        raise StageError(
            f"{network.name} has no feature map left of an image scaled to {width} x {height} px "
            f"({str(error).splitlines()[0]}); use larger maps.short_px and maps.long_px"
        ) from None
    return int(shape[2]), int(shape[3])


def _shape(network: Network, layer: str, height: int, width: int) -> tuple[int, ...]:
    """Find the shape of a node's output for one image, without computing it."""
    graph = copy.deepcopy(network.graph([layer])).to("meta")
    with torch.inference_mode():
        return tuple(graph(torch.empty(1, 3, height, width, device="meta"))[network.node(layer)].shape)


def save_regions(path: Path, of: RegionNetwork, extra: Mapping[str, str] | None = None) -> None:
    """Write network and heads as one safetensors file, whose metadata rebuilds them; equal weights give equal bytes."""
    tensors = {f"network/{name}": tensor for name, tensor in of.network.trunk.state_dict().items()}
    meta = {**(extra or {}), "format": FORMAT, "layer": of.layer, "network": json.dumps(metadata(of.network))}
    if of.rpn is not None and of.rpn_shape is not None:
        tensors |= {f"rpn/{name}": tensor for name, tensor in of.rpn.state_dict().items()}
        meta["rpn"] = json.dumps(of.rpn_shape.described())
    if of.fast is not None:
        tensors |= {f"fast/{name}": tensor for name, tensor in new_layers(of.fast).state_dict().items()}
        meta["fast"] = json.dumps({"n_classes": of.fast.n_classes, "pooled_by": of.pooled_by})
        if of.norm is not None:
            tensors |= {"norm/mean": torch.from_numpy(of.norm.mean), "norm/std": torch.from_numpy(of.norm.std)}
    atomic_write(path, tensor_file(tensors, meta))


def load_regions(path: Path, layer: str | None = None) -> RegionNetwork:
    """Read what :func:`save_regions` wrote, or a network's own weights, which have no heads yet.

    ``layer`` says where the latter are cut. StageError for a foreign or damaged file.
    """
    tensors, meta = open_weights(path)
    if meta.get("format") == WEIGHTS_FORMAT:
        return cut(network_in(path, tensors, meta), layer)
    if meta.get("format") != FORMAT:
        raise StageError(f"{path}: holds no network of this pipeline; run the stage that wrote it again")
    try:
        own = network_in(path, tensors_below(tensors, "network/"), json.loads(meta["network"]))
        found = _cut_of(own, meta["layer"])
        generator = torch.Generator().manual_seed(0)  # what is drawn is replaced at once
        if "rpn" in meta:
            found.add_rpn(_shape_of(json.loads(meta["rpn"])), generator).load_state_dict(tensors_below(tensors, "rpn/"))
        if "fast" in meta:
            n_classes = json.loads(meta["fast"])["n_classes"]
            if type(n_classes) is not int or not 1 <= n_classes <= _MOST_CLASSES:
                raise ValueError(f"n_classes {n_classes!r}")
            found.pooled_by = _pooled_by(json.loads(meta["fast"])["pooled_by"])
            new_layers(found.add_fast(n_classes, generator)).load_state_dict(tensors_below(tensors, "fast/"))
            norm = tensors_below(tensors, "norm/")
            found.norm = _norm(norm["mean"], norm["std"], n_classes) if norm else None
            found.classes = class_names_in(path, meta) or ()
            if len(found.classes) not in (0, n_classes):
                raise ValueError(f"{len(found.classes)} names of {n_classes} classes")
    except (KeyError, TypeError, ValueError, RuntimeError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StageError(f"{path}: damaged weights ({reason}); run the stage that wrote it again") from error
    return found


def _cut_of(network: Network, layer: str) -> RegionNetwork:
    """Cut a network as :func:`cut` does, where a file says: ValueError where that is no map."""
    try:
        return cut(network, layer)
    except StageError as error:
        raise ValueError(str(error)) from None


def _norm(mean: Tensor, std: Tensor, n_classes: int) -> TargetNorm:
    """Make what box targets were standardised by; ValueError for anything else."""
    fits = all(one.shape == (n_classes, 4) and bool(torch.isfinite(one).all()) for one in (mean, std))
    if not fits or not bool((std > 0).all()):
        raise ValueError("the mean and deviation of box targets are not those of its classes")
    return TargetNorm(mean.numpy(), std.numpy())


def new_layers(head: FastHead) -> nn.ModuleDict:
    """Return those layers of a head that are not the network's own."""
    return nn.ModuleDict({"cls_score": head.cls_score, "bbox_pred": head.bbox_pred})


def _shape_of(described: Mapping[str, Any]) -> RpnShape:
    """Invert :meth:`RpnShape.described`; KeyError, TypeError or ValueError for anything else."""
    scales, ratios = (_numbers(described[name]) for name in ("scales_px", "ratios"))
    rule, objectness, channels = described["anchors"], described["objectness"], described["channels"]
    if rule not in ("authors", "exact") or objectness not in ("softmax", "logistic"):
        raise ValueError(f"anchors {rule!r}, objectness {objectness!r}")
    if described["centres"] not in ("own", "authors") or type(channels) is not int or not 1 <= channels <= 4096:
        raise ValueError(f"centres {described['centres']!r}, channels {channels!r}")
    return RpnShape(Anchors(scales, ratios, rule), described["centres"], objectness, channels)


def _pooled_by(values: Sequence[Any]) -> tuple[PoolingKind, Cells]:
    kind, cells = values
    if kind not in ("max", "align") or cells not in ("authors", "own"):
        raise ValueError(f"pooled_by {values!r}")
    return kind, cells


def _numbers(values: Sequence[Any]) -> tuple[float, ...]:
    found = tuple(float(value) for value in values)
    if not 1 <= len(found) <= 16 or not all(0 < value < 1e5 for value in found):
        raise ValueError(f"anchors of {list(values)[:4]}")
    return found
