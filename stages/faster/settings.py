"""Parameters of groups ``maps`` and ``joint``: the whole image as the shared network takes it, and joint training."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from stages.fast.settings import ScalesSettings, Side
from stages.networks.settings import NetworkSettings
from stages.settings import Parameters, RateDrops, Settings, require_order
from stages.training.settings import SolverSettings


class MapsSettings(Settings):
    """Group ``maps``: the scale of the image, and the feature map that RPN and detector share."""

    short_px: Side = Field(600, description="the image is scaled until its shorter side has this length (the paper)")
    long_px: Side = Field(1000, description="but its longer side at most this (the paper)")
    layer: str | None = Field(
        None,
        min_length=1,
        description="the shared feature map: any feature-extraction node; null: the network's last one before pool5",
    )
    frozen: str | None = Field(
        None,
        description="what of the layers before it no training changes: those up to this node, or none; null: the "
        "paper's (vgg16: up to conv2_2; other networks: none)",
    )
    storage: Literal["float16", "float32"] = Field("float16", description="precision in which maps are stored (ours)")

    @model_validator(mode="after")
    def _sides_in_order(self) -> "MapsSettings":
        require_order("maps", self, "short_px", "long_px")
        return self


class ImageSettings(Settings):
    """Those parameters of group ``maps`` that say what a training of all layers sees."""

    whole: ClassVar[bool] = False

    short_px: int = 600
    long_px: int = 1000
    layer: str | None = None
    frozen: str | None = None


def check(params: Parameters) -> Iterator[str]:
    """Say so where pool5 is to have a grid: regions are pooled to the one that fc6 takes."""
    if params.of("network", NetworkSettings).pool5_grid is not None:
        yield "network.pool5_grid: regions are pooled to the grid that fc6 takes (docs/faster.md); set it to null"


def check_maps(params: Parameters) -> Iterator[str]:
    """Say so where detections need maps of several scales: those that are stored have one."""
    if params.of("roi_detect", ScalesSettings).scales_px is not None:
        yield (
            "roi_detect.scales_px: a detector of kind faster stores the maps of one scale, which its RPN shares "
            "(docs/faster.md); set it to null"
        )


class JointSettings(SolverSettings):
    """Group ``joint``: RPN and Fast R-CNN trained at once (the paper, section 3.2, "approximate joint training")."""

    iterations: int = Field(70_000, ge=1, le=10_000_000, description="solver steps (py-faster-rcnn)")
    step: RateDrops = Field(
        50_000, description="iterations after which the rate drops, each time; or a list: it drops at each of these"
    )
    iter_size: int = Field(2, ge=1, le=64, description="images of a step, one after another (py-faster-rcnn)")
    before_nms: int | None = Field(
        12_000, ge=1, le=10**7, description="best anchors that enter suppression while training (py-faster-rcnn)"
    )
    after_nms: int = Field(2000, ge=1, le=10**6, description="proposals that are drawn from (py-faster-rcnn)")


class RpnMirror(Settings):
    """The parameter of group ``rpn`` that says whether maps of mirror images are needed."""

    whole: ClassVar[bool] = False

    mirror: bool = True


class FastMirror(Settings):
    """The parameter of group ``fast`` that says whether maps of mirror images are needed."""

    whole: ClassVar[bool] = False

    mirror: bool = True
