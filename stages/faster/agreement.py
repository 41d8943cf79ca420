"""Whether a trained network agrees with what the parameters and the dataset ask for now."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from cache.errors import StageError
from stages.rpn.settings import RpnShapeSettings

from .network import RegionNetwork, map_node
from .rpn_training import rpn_shape


def other_anchors(network: RegionNetwork, asked: RpnShapeSettings) -> list[str]:
    """Say which of group ``rpn``'s parameters are others than the network's RPN was trained with."""
    assert network.rpn_shape is not None
    wanted, found = rpn_shape(asked, network).described(), network.rpn_shape.described()
    return [f"rpn.{name} {found[name]} and not {wanted[name]}" for name in wanted if found[name] != wanted[name]]


def other_layer(network: RegionNetwork, asked: str | None) -> list[str]:
    """Say whether ``maps.layer`` names another map than the one that the network's heads were trained on."""
    layer = network.network.conv5 if asked is None else map_node(network.network, asked)
    return [] if layer == network.layer else [f"maps.layer {network.layer} and not {layer}"]


def check_trained(shown: str, other: Sequence[str]) -> None:
    """StageError, saying what trains the weights of path ``shown`` anew, where anything is another."""
    if other:
        *_, detector, node, _ = PurePosixPath(shown).parts
        raise StageError(
            f"{shown}: trained with {', '.join(other)}, which params.yaml says; run `dvc repro`, or "
            f"`rcnn -d {detector} run {node}` first"
        )


def check_classes(network: RegionNetwork, classes: Sequence[str], shown: str) -> None:
    """StageError where the weights of path ``shown`` have no Fast R-CNN, or one of other classes or another order."""
    if network.fast is None:
        raise StageError(f"{shown}: holds no Fast R-CNN; run `dvc repro`")
    if network.classes != tuple(classes):
        raise StageError(
            f"{shown}: trained for classes {', '.join(network.classes)}, and the dataset has {', '.join(classes)}; "
            "run `dvc repro`"
        )
