"""Parameters of the built-in dataset."""

from dataclasses import fields
from typing import Annotated

from pydantic import Field, model_validator

from manifests.scenes import SceneOptions
from stages.settings import Settings

Probability = Annotated[float, Field(ge=0, le=1)]


class ScenesSettings(Settings):
    """What the built-in dataset holds; the defaults make the demo. See :mod:`manifests.scenes`."""

    seed: int = Field(0, ge=0, lt=2**32, description="seed of the dataset; the pipeline's own seed does not change it")
    n_train: int = Field(160, ge=1, le=99_999, description="training scenes")
    n_test: int = Field(80, ge=1, le=99_999, description="test scenes")
    width_px: int = Field(320, ge=64, le=4096, description="width of a scene")
    height_px: int = Field(240, ge=64, le=4096, description="height of a scene")
    objects_min: int = Field(2, ge=1, le=100, description="fewest digits in a scene")
    objects_max: int = Field(6, ge=1, le=100, description="most digits in a scene; in a full one fewer find room")
    object_min_px: int = Field(
        28, ge=12, le=2048, description="height of the smallest digit, before rotation and slant"
    )
    object_max_px: int = Field(110, ge=12, le=2048, description="height of the largest digit, log-uniform in between")
    distractors_min: int = Field(2, ge=0, le=100, description="fewest non-digits in a scene")
    distractors_max: int = Field(6, ge=0, le=100, description="most non-digits in a scene")
    plate_probability: Probability = Field(0.25, description="a digit stands on a plain tile")
    outline_probability: Probability = Field(0.25, description="a digit is outlined")
    texture_probability: Probability = Field(0.2, description="a digit is filled with a pattern or a photograph")
    translucent_probability: Probability = Field(0.15, description="the background shows through a digit")
    smear_probability: Probability = Field(0.15, description="a shape of nearly its colour lies behind a digit")
    blur_probability: Probability = Field(0.2, description="a digit is out of focus")
    occlusion_probability: Probability = Field(0.2, description="something is laid over a digit")
    truncation_probability: Probability = Field(0.08, description="a digit lies partly outside the image")
    low_contrast_probability: Probability = Field(0.05, description="a digit is faint, and marked difficult")
    classification_train: int = Field(4000, ge=1, le=1_000_000, description="training pictures for pre-training")
    classification_val: int = Field(400, ge=1, le=1_000_000, description="validation pictures for pre-training")
    classification_px: int = Field(72, ge=16, le=512, description="side of those pictures")

    @model_validator(mode="after")
    def _consistent(self) -> "ScenesSettings":
        problems = self.options().validate()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def options(self) -> SceneOptions:
        """The generator's options, field by field."""
        return SceneOptions(**{f.name: getattr(self, f.name) for f in fields(SceneOptions)})
