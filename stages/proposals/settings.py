"""Parameters of the ``proposals`` stage; defaults are the R-CNN authors' (selective_search_boxes.m, fast mode)."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from stages.settings import Settings, distinct

Scale = Annotated[int, Field(ge=1, le=100_000)]
Color = Literal["hsv", "lab", "rgb", "rgi", "h", "intensity"]
Strategy = Literal["color_texture_size_fill", "texture_size_fill", "fill", "size"]
SidePx = Annotated[float, Field(ge=4, le=100_000)]
Aspect = Annotated[float, Field(ge=0.01, le=100)]


class OpenCVSettings(Settings):
    """OpenCV's ``switchToSelectiveSearchFast(base_k, inc_k, sigma)``: k = base_k, base_k + inc_k, base_k + 2 inc_k."""

    base_k: int = Field(150, ge=1, le=100_000, description="smallest segmentation scale")
    inc_k: int = Field(150, ge=1, le=100_000, description="step to the next scale")
    sigma: float = Field(0.8, ge=0.01, le=10, description="smoothing before segmentation, pixels")


class SlidingWindowSettings(Settings):
    """A dense pyramid of windows."""

    scales_px: Annotated[tuple[SidePx, ...], AfterValidator(distinct)] = Field(
        (64, 128, 256, 512), min_length=1, description="square roots of the windows' areas, pixels"
    )
    aspects: Annotated[tuple[Aspect, ...], AfterValidator(distinct)] = Field(
        (0.5, 1, 2), min_length=1, description="width / height of the windows"
    )
    stride: float = Field(0.25, ge=0.02, le=1, description="largest step, as a part of the window's side")


class FileSettings(Settings):
    """Boxes from a file; docs/proposal-file.md describes it."""

    path: str | None = Field(None, min_length=1, description="HDF5 or npz, relative to the project's root")


class ProposalsSettings(Settings):
    """Where region proposals come from."""

    method: Literal["selective_search", "opencv", "sliding_window", "file"] = Field(
        "selective_search", description="which of the interchangeable methods makes the boxes"
    )
    max_proposals: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="boxes kept per image, best first; null: all, as in the authors' code",
    )
    min_side_px: int = Field(
        20, ge=1, le=10_000, description="shorter sides are dropped, at the size worked on (not for method file)"
    )
    resize_width_px: int | None = Field(
        None,
        ge=16,
        le=20_000,
        description="width selective search works at, up or down; null: the image's own (paper: VOC null, ILSVRC 500)",
    )
    k: Annotated[tuple[Scale, ...], AfterValidator(distinct)] = Field(
        (50, 100), min_length=1, max_length=16, description="segmentation scales, in grey levels"
    )
    min_region_px: int | None = Field(
        None, ge=1, le=1_000_000, description="least region of a segmentation, pixels; null: as many as its k"
    )
    colors: Annotated[tuple[Color, ...], AfterValidator(distinct)] = Field(
        ("hsv", "lab"), min_length=1, description="colour spaces to segment and group in"
    )
    strategies: Annotated[tuple[Strategy, ...], AfterValidator(distinct)] = Field(
        ("color_texture_size_fill", "texture_size_fill"), min_length=1, description="similarities to group by"
    )
    sigma: float = Field(0.8, ge=0, le=10, description="smoothing before segmentation, pixels")
    opencv: OpenCVSettings = Field(OpenCVSettings(), description="for method opencv")
    sliding_window: SlidingWindowSettings = Field(SlidingWindowSettings(), description="for method sliding_window")
    file: FileSettings = Field(FileSettings(), description="for method file")
