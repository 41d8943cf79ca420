"""Parameters that every training of a region network has: its length, its rates, and how often it is looked at."""

from typing import Any, Literal

from pydantic import Field

from stages.settings import RateDrops, Settings

# These change no number of a result, so a run may go on from a checkpoint that was made with others.
NO_RESULT = frozenset({"checkpoint_every", "image_cache_mb"})


class SolverSettings(Settings):
    """Caffe's solver and its schedule. Defaults are Faster R-CNN's; those that differ by stage are set there."""

    iterations: int = Field(80_000, ge=1, le=10_000_000, description="solver steps")
    lr: float = Field(0.001, gt=0, le=10, description="learning rate at the start (the paper)")
    step: RateDrops = Field(
        60_000, description="iterations after which the rate drops, each time; or a list: it drops at each of these"
    )
    gamma: float = Field(0.1, gt=0, le=1, description="factor by which the rate drops (the paper)")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD momentum (the paper)")
    weight_decay: float = Field(
        0.0005, ge=0, le=1, description="L2 penalty on weights and biases (the paper; py-faster-rcnn for biases)"
    )
    mirror: bool = Field(True, description="train on each image's mirror image as well (the authors' code)")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="arithmetic of convolutions and products; bfloat16 is faster where the CPU has it (ours)"
    )
    eval_every: int = Field(1_000, ge=1, le=1_000_000, description="iterations between points of the curve")
    checkpoint_every: int = Field(1_000, ge=1, le=1_000_000, description="iterations between checkpoints")
    image_cache_mb: int = Field(
        1024, ge=0, le=1_000_000, description="MB (2^20 bytes) of decoded images or of feature maps to keep"
    )

    def identity(self) -> dict[str, Any]:
        """Return the parameters that the result depends on, as JSON."""
        return self.model_dump(mode="json", exclude=set(NO_RESULT))
