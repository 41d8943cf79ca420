"""Parameters of group ``classify``: the views that a picture's scores are averaged over."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ..common.settings import Settings, distinct

Method = Literal["1_crop", "10_crops", "1_full", "8_crops_2_full"]


class ClassifySettings(Settings):
    """Of the classification pipeline (docs/classification.md); the detector's ``dvc repro`` does not read it."""

    views: Annotated[tuple[Method, ...], AfterValidator(distinct)] | None = Field(
        None,
        min_length=1,
        description="ways to test a picture: 1_crop (centre), 10_crops (corners, centre, mirrored), 1_full, "
        "8_crops_2_full (corners and the full picture, mirrored); null: all that the network can do",
    )
    short_side_px: int | None = Field(
        None,
        ge=16,
        le=4096,
        description="the picture's shorter side before views are taken; null: 8/7 of the network's input (256 for 224)",
    )
