"""Parameters of fine-tuning; the defaults are the paper's, or the authors' code's where the paper is silent."""

from typing import Literal

from pydantic import Field, model_validator

from stages.settings import RateDrops, Settings


class FinetuneSettings(Settings):
    """Group ``finetune`` of params.yaml (paper section 2.3; the authors' finetuning/*.prototxt)."""

    iterations: int = Field(70_000, ge=0, le=10_000_000, description="SGD iterations; 0 leaves the weights as they are")
    fg_per_batch: int = Field(32, ge=1, le=4096, description="positive windows per mini-batch")
    bg_per_batch: int = Field(96, ge=1, le=4096, description="background windows per mini-batch")
    fg_iou: float = Field(0.5, gt=0, le=1, description="a window is positive from this IoU on")
    bg_iou: float = Field(0.5, gt=0, le=1, description="a window is background below this IoU")
    bg_iou_low: float = Field(
        0.0, ge=0, lt=1, description="and not below this: a window far from every object is none (SPP-net: 0.1)"
    )
    mirror: bool = Field(True, description="mirror each window left-right with probability 0.5")
    lr: float = Field(0.001, gt=0, le=10, description="learning rate at the start")
    new_layer_lr: float = Field(10.0, gt=0, le=1000, description="the new last layer's rate, as a multiple of lr")
    step: RateDrops = Field(
        20_000, description="iterations after which the rate drops, each time; or a list: it drops at each of these"
    )
    gamma: float = Field(0.1, gt=0, le=1, description="factor by which the rate drops")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD momentum")
    weight_decay: float = Field(0.0005, ge=0, le=1, description="L2 penalty on weights; biases have none")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="arithmetic of convolutions and products; bfloat16 is faster where the CPU has it"
    )
    held_out_fraction: float = Field(
        0.1, ge=0, le=0.5, description="part of the training images kept aside for the held-out curve (0: no curve)"
    )
    held_out_windows: int = Field(512, ge=1, le=100_000, description="windows of those images to measure on")
    eval_every: int = Field(1_000, ge=1, le=1_000_000, description="iterations between points of the curve")
    checkpoint_every: int = Field(1_000, ge=1, le=1_000_000, description="iterations between checkpoints")
    image_cache_mb: int = Field(
        1024, ge=0, le=1_000_000, description="MB (2^20 bytes) of decoded images, or with SPP of feature maps, to keep"
    )

    @model_validator(mode="after")
    def _limits_in_order(self) -> "FinetuneSettings":
        if self.bg_iou > self.fg_iou:
            raise ValueError(f"finetune.bg_iou ({self.bg_iou}) must not be above finetune.fg_iou ({self.fg_iou})")
        if self.bg_iou_low >= self.bg_iou:
            raise ValueError(f"finetune.bg_iou_low ({self.bg_iou_low}) must be below finetune.bg_iou ({self.bg_iou})")
        return self
