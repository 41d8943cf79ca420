"""Parameters of group ``features``: which layers to store, and how a region becomes the network's input."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from stages.networks.architectures import NAMED_LAYERS
from stages.networks.settings import Levels, NetworkSettings, Pooling
from stages.settings import Parameters, Settings, distinct

LayerName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.]*$")]


class SppSettings(Settings):
    """SPP-net's 1-scale detector; its 5-scale one has ``scales_px: [480, 576, 688, 864, 1200]``."""

    scales_px: tuple[Annotated[int, Field(ge=16, le=4096)], ...] = Field(
        (688,),
        min_length=1,
        max_length=16,
        description="shorter side of the whole image, px; of several, each region uses the one where it is nearest to "
        "target_side_px",
    )
    levels: Levels = Field((1, 2, 3, 6), description="pyramid: n x n bins for each n listed, in this order")
    pooling: Pooling = Field(
        "max", description="what a bin holds: its largest value (the paper), or, for pool5 alone, the average"
    )
    target_side_px: int = Field(
        224, ge=16, le=4096, description="a region should have this side squared in pixels (the authors' code: 208)"
    )

    _distinct = field_validator("scales_px")(distinct)


class FeaturesSettings(Settings):
    """The paper's crop: anisotropic warp with 16 px of context on each side of the 227 px input."""

    layers: tuple[LayerName, ...] = Field(
        ("pool5", "fc6", "fc7"),
        min_length=1,
        description="layers to store: pool5, fc6, fc7, fc8 (logits), or any torchvision feature-extraction node",
    )
    method: Literal["warp", "spp"] = Field(
        "warp",
        description="warp: every region cropped and put through the network (R-CNN); spp: regions pooled from conv5 of "
        "the whole image (SPP-net)",
    )
    crop: Literal["warp", "square", "square_no_context"] = Field(
        "warp",
        description="region to crop: stretched to the square, or in the tightest square (appendix A)",
    )
    context_px: int = Field(
        16,
        ge=0,
        le=256,
        description="image context p around the box, in pixels at the network's input side",
    )
    padding: Literal["mean", "replicate"] = Field(
        "mean",
        description="what stands in a crop where the image ends, and in square_no_context beside the box: the mean, "
        "which is then subtracted (the paper), or the nearest pixels repeated (appendix A's alternative; ours)",
    )
    spp: SppSettings = Field(default_factory=SppSettings, description="of method spp")
    storage: Literal["float16", "float32"] = Field("float16", description="precision in which features are stored")


class RegionSettings(Settings):
    """Those parameters of group ``features`` that say how a region becomes the network's input."""

    whole: ClassVar[bool] = False

    method: Literal["warp", "spp"] = "warp"
    crop: Literal["warp", "square", "square_no_context"] = "warp"
    context_px: int = 16
    padding: Literal["mean", "replicate"] = "mean"
    spp: SppSettings = Field(default_factory=SppSettings)
    storage: Literal["float16", "float32"] = "float16"


def check_layers(params: Parameters) -> Iterator[str]:
    """Say which of the stored layers the network cannot have."""
    stored = params.of("features", FeaturesSettings).layers
    network = params.of("network", NetworkSettings)
    own = network.named_layers
    for layer in sorted(set(NAMED_LAYERS) - set(own)):
        if layer in stored:
            yield (
                f"features.layers: network {network.name} has no {layer}; its named layers are {', '.join(own)}, "
                "and any of its nodes can be named as well"
            )


def check_stored(params: Parameters, name: str, layer: str) -> Iterator[str]:
    """Say so where the layer that parameter ``name`` chooses is not stored."""
    stored = params.of("features", FeaturesSettings).layers
    if layer not in stored:
        yield f"{name} = {layer!r} is not among features.layers ({', '.join(stored)}); add it there or choose one"
