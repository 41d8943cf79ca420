"""A network in two parts, for SPP: what runs over whole images, and what takes the pooled vector."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from cache.errors import StageError
from stages.networks.network import Network
from stages.networks.receptive_field import Geometry, map_geometry
from stages.networks.settings import Pooling

from .pooling import bin_count

POOLED = "pool5"  # the layer that is the pooled vector itself


@dataclass(frozen=True)
class SplitNetwork:
    """``conv`` maps images [1, 3, h, w] to ``{conv5 node: [1, channels, y, x]}``; ``fc`` (None: not asked for) maps
    pooled vectors [n, d] to a dict by node, named by layer in ``nodes``. ``dims`` is the length of each layer's
    feature, ``pooled`` that of the pooled vector. Both parts share the network's weights.
    """

    conv: nn.Module
    fc: nn.Module | None
    conv5: str
    nodes: Mapping[str, str]
    geometry: Geometry
    dims: Mapping[str, int]
    pooled: int


def split(
    network: Network, layers: Sequence[str], levels: Sequence[int], least_px: int, pooling: Pooling = "max"
) -> SplitNetwork:
    """Split a network for ``layers`` with a pyramid of ``levels``.

    Raises ``StageError`` where the fully connected layers do not take the pooled vector (averages they never take),
    saying what would; where a layer is neither pool5 nor behind it; where an image of ``least_px`` on its shorter side
    leaves no cell of the map.
    """
    conv = network.graph([network.conv5])
    pooled = pooled_length(network, levels, least_px)
    after = [layer for layer in layers if layer != POOLED]
    if after and pooling != "max":
        raise StageError(
            f"features.spp.pooling: {pooling} is for {POOLED}; the layers behind it were trained on maxima: store "
            f"{POOLED} alone, without {', '.join(after)}, or set features.spp.pooling to max"
        )
    try:
        fc = fully_connected(network, after, levels, pooled) if after else None
    except StageError as error:
        raise StageError(
            f"features.layers: {error}; otherwise store {POOLED} alone, without {', '.join(after)}"
        ) from None
    nodes = {layer: network.node(layer) for layer in after}
    dims = {POOLED: pooled} if POOLED in layers else {}
    if fc is not None:
        like = next(fc.parameters())
        with torch.inference_mode():
            outputs = fc(torch.zeros(1, pooled, dtype=like.dtype, device=like.device))
        dims |= {layer: int(outputs[node].shape[1]) for layer, node in nodes.items()}
    return SplitNetwork(conv, fc, network.conv5, nodes, map_geometry(network), dims, pooled)


def pooled_length(network: Network, levels: Sequence[int], least_px: int) -> int:
    """Length of the pooled vector; nothing is computed.

    ``StageError`` where an image of ``least_px`` on its shorter side leaves no cell of the map.
    """
    shape = (1, 3, least_px, least_px)
    try:
        with torch.inference_mode():
            conv = copy.deepcopy(network.graph([network.conv5])).to("meta")
            fmap = conv(torch.empty(shape, device="meta"))[network.conv5]
    except RuntimeError as error:
        raise StageError(
            f"features.spp.scales_px: {network.name} has no conv5 left of an image of {least_px} px "
            f"({str(error).splitlines()[0]}); use a larger scale"
        ) from None
    return int(fmap.shape[1]) * bin_count(levels)


def fully_connected(network: Network, layers: Sequence[str], levels: Sequence[int], pooled: int) -> nn.Module:
    """The part of the network behind the pooled vector [n, ``pooled``], to a dict of the layers' nodes.

    Shares the weights. ``StageError`` where it does not take the vector of a pyramid of ``levels``, saying what would.
    """
    fc = network.fc_graph(layers)
    first = next((m for m in fc.modules() if isinstance(m, nn.Linear)), None)
    taken = None if first is None else first.in_features
    if network.pyramid is not None and tuple(levels) != network.pyramid:
        raise StageError(
            f"fc6 of {network.name} takes the pyramid it was trained with, {list(network.pyramid)}, not "
            f"{list(levels)}; set features.spp.levels to it"
        )
    if taken is not None and taken != pooled:
        side = round((taken * bin_count(levels) / pooled) ** 0.5)
        fits = f"set features.spp.levels to [{side}], or " if side * side * pooled == taken * bin_count(levels) else ""
        raise StageError(
            f"fc6 of {network.name} takes {taken} values, the pyramid {list(levels)} gives {pooled}; {fits}use weights "
            f"trained with network.pyramid: {list(levels)}"
        )
    return fc
