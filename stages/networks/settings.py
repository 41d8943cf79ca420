"""Parameters of group ``network``: which network, whose weights, and how it runs."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from stages.settings import Settings

from .architectures import ARCHITECTURES, ArchitectureName, architecture_of

Positive = Annotated[float, Field(gt=0)]
MAX_LEVEL, MAX_LEVELS, MAX_FC = 32, 8, 16_384
Units = Annotated[int, Field(ge=1, le=MAX_FC)]  # of a fully connected layer
# Levels of a spatial pyramid: n stands for n x n bins.
Levels = Annotated[tuple[Annotated[int, Field(ge=1, le=MAX_LEVEL)], ...], Field(min_length=1, max_length=MAX_LEVELS)]
# What a bin of it holds: its largest value, as the SPP paper has it throughout, or the average.
Pooling = Literal["max", "average"]


class InputSettings(Settings):
    """Input convention of a weights file that does not carry its own; ``mean`` and ``std`` are in ``color_order``."""

    color_order: Literal["rgb", "bgr"] = Field("rgb", description="order of the input's channels")
    value_range: Literal[1, 255] = Field(255, description="white: 1 or 255")
    mean: tuple[float, float, float] = Field((0.0, 0.0, 0.0), description="subtracted, in value_range units")
    std: tuple[Positive, Positive, Positive] = Field((1.0, 1.0, 1.0), description="divided by, after the mean")
    side_px: int | None = Field(None, ge=16, le=1024, description="square input's side, px; null: the network's own")


class NetworkSettings(Settings):
    """Group ``network`` of params.yaml. The paper's T-Net is ``caffenet``; the default is for the built-in data."""

    name: ArchitectureName = Field("small", description="architecture")
    weights: str = Field(
        "pretrain",
        min_length=1,
        description="'pretrain', a torchvision weights name (IMAGENET1K_V1), or the path of a .safetensors file or of "
        "OverFeat's authors' net_weight_0 (fast) or net_weight_1 (accurate)",
    )
    input: InputSettings | None = Field(
        None,
        description="input convention of a weights file; null: the file's metadata or the network's own",
    )
    pool5_grid: int | None = Field(
        None,
        ge=1,
        le=32,
        description="average pool5 to this grid; null: the network's own (squeezenet1_0: 3)",
    )
    pyramid: Levels | None = Field(
        None,
        description="SPP-net: levels of a spatial pyramid in the place of pool5, n x n bins each ([1, 2, 3, 6]), with "
        "an fc6 that takes it; null: the network's own pool5",
    )
    fc: tuple[Units, Units] | None = Field(
        None,
        description="with network.pyramid: outputs of a new fc6 and fc7 behind it, such as [1024, 1024], in place of "
        "the network's own, if it has any; they are drawn from the seed, so fine-tune them; null: no new ones",
    )
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="arithmetic of the forward pass")
    batch: int = Field(
        16,
        ge=1,
        le=4096,
        description="crops per forward pass; part of every such feature's key. Of no effect where whole images pass "
        "(SPP-net, Fast and Faster R-CNN)",
    )

    @property
    def named_layers(self) -> tuple[str, ...]:
        """The named layers of the network that is meant, from the input on."""
        return tuple(architecture_of(self.name, self.fc).nodes)

    @model_validator(mode="after")
    def _input_is_for_given_weights(self) -> "NetworkSettings":
        if self.input is not None and self.weights == "pretrain":
            raise ValueError("network.input describes given weights; with network.weights: pretrain set it to null")
        return self

    @model_validator(mode="after")
    def _a_pyramid_goes_before_fc6(self) -> "NetworkSettings":
        own = ARCHITECTURES[self.name].fc6
        if self.pyramid is not None and self.fc is None and own is None:
            raise ValueError(
                f"network.pyramid: {self.name} has no fc6 to take it; set network.fc to the outputs of a new fc6 and "
                "fc7, such as [1024, 1024], or network.pyramid to null"
            )
        if self.fc is not None and self.pyramid is None:
            raise ValueError("network.fc: needs a pyramid to take; set network.pyramid, or network.fc to null")
        if self.pyramid is not None and self.pool5_grid is not None:
            raise ValueError("network.pyramid and network.pool5_grid exclude each other; set one to null")
        return self


class ArithmeticSettings(Settings):
    """The one parameter of group ``network`` that matters to who only runs it: its arithmetic."""

    whole: ClassVar[bool] = False

    dtype: Literal["float32", "bfloat16"] = "float32"
