"""Parameters of group ``features``: which layers to store, and how a region becomes the network's input."""

from typing import Annotated, Literal

from pydantic import Field

from ..common.settings import Settings

LayerName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.]*$")]


class FeaturesSettings(Settings):
    """The paper's crop: anisotropic warp with 16 px of context on each side of the 227 px input."""

    layers: tuple[LayerName, ...] = Field(
        ("pool5", "fc6", "fc7"),
        min_length=1,
        description="layers to store: pool5, fc6, fc7, fc8 (logits), or any torchvision feature-extraction node",
    )
    crop: Literal["warp", "square", "square_no_context"] = Field(
        "warp", description="region to crop: stretched to the square, or in the tightest square (appendix A)"
    )
    context_px: int = Field(
        16, ge=0, le=256, description="image context p around the box, in pixels at the network's input side"
    )
    storage: Literal["float16", "float32"] = Field("float16", description="precision in which features are stored")
