"""Parameters of group ``units``, every detector's that stores regions' features (docs/analysis.md)."""

from typing import ClassVar

from pydantic import Field

from stages.features.settings import LayerName
from stages.settings import Settings


class UnitsSettings(Settings):
    """Which units stage ``units`` shows; ``rcnn features units`` has the same as options."""

    layer: LayerName | None = Field(
        None,
        description="stored layer whose units they are; null: pool5 where it is stored (paper), else svm.layer",
    )
    top: int = Field(1000, ge=1, le=100_000, description="activations kept of each unit (the authors' explorer)")
    early_floor: bool = Field(
        False,
        description="pass over regions that are not above the weakest that a unit has even before it has `top`, as the "
        "authors' explorer does, whose lists can so stay short; false: all enter until then (ours: exact)",
    )
    channels: int = Field(
        256, ge=1, le=10_000, description="units on the page: the centre cell's first channels (the paper: 256)"
    )
    shown: int = Field(16, ge=1, le=1000, description="regions on the page of each unit (the paper's Figure 4: 16)")


class ScoredLayerSettings(Settings):
    """The parameter of group ``svm`` that says which layer is scored."""

    whole: ClassVar[bool] = False

    layer: str = "fc7"
