"""Parameters of fine-tuning; each description says whose the value is: the paper's, its authors' code's, or ours."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, model_validator

from stages.settings import Parameters, RateDrops, Settings, SplitNames, check_images, require_order


class FinetuneSettings(Settings):
    """Group ``finetune`` of params.yaml (paper section 2.3; the authors' finetuning/*.prototxt).

    Defaults are those for the paper's T-Net (caffenet). O-Net's (vgg16) differ by the mini-batch, 24 windows of which 6
    are foreground, SPP-net's by what the descriptions name.
    """

    images: SplitNames | None = Field(
        None,
        description="splits to train on, of those that manifest.train lists; null: all of them (the paper, VOC 2010 to "
        "2012: the network on train, SVMs on trainval)",
    )
    iterations: int = Field(
        70_000,
        ge=0,
        le=10_000_000,
        description="SGD iterations (the authors' VOC snapshot; ILSVRC: 50,000; SPP-net's code: 200,000); 0 leaves the "
        "weights as they are",
    )
    fg_per_batch: int = Field(
        32, ge=1, le=4096, description="positive windows per mini-batch (the paper; the authors' vgg16: 6)"
    )
    bg_per_batch: int = Field(
        96, ge=1, le=4096, description="background windows per mini-batch (the paper; the authors' vgg16: 18)"
    )
    sampling: Literal["replacement", "blocks"] = Field(
        "replacement",
        description="replacement: each mini-batch for itself, from all windows, with replacement (R-CNN's code); "
        "blocks: those of 500 together, without, from images with ten times their windows (SPP-net's code)",
    )
    fg_iou: float = Field(0.5, gt=0, le=1, description="a window is positive from this IoU on (the paper)")
    bg_iou: float = Field(0.5, gt=0, le=1, description="a window is background below this IoU (the paper)")
    bg_iou_low: float = Field(
        0.0, ge=0, lt=1, description="and not below this: a window far from every object is none (SPP-net: 0.1)"
    )
    mirror: bool = Field(
        True, description="mirror each window left-right with probability 0.5 (the authors' code, SPP-net's paper)"
    )
    lr: float = Field(
        0.001, gt=0, le=10, description="learning rate at the start (the paper, for weights pre-trained on ImageNet)"
    )
    new_layer_lr: float = Field(
        10.0,
        gt=0,
        le=1000,
        description="the new last layer's rate, as a multiple of lr: 10 with the paper's lr (the authors' code); "
        "SPP-net's code: 1",
    )
    new_layer_bias: float = Field(
        0.0, ge=-100, le=100, description="where the new last layer's biases start (the authors' code; SPP-net's: 1)"
    )
    step: RateDrops = Field(
        20_000,
        description="iterations after which the rate drops, each time (the authors' code); or a list: it drops at each "
        "of these (SPP-net's code: [30000, 60000])",
    )
    gamma: float = Field(0.1, gt=0, le=1, description="factor by which the rate drops (the authors' code)")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD momentum (the authors' code)")
    weight_decay: float = Field(
        0.0005, ge=0, le=1, description="L2 penalty on weights, and on biases where decay_biases (the authors' code)"
    )
    decay_biases: bool = Field(
        False,
        description="whether biases have that penalty, too, but for the new last layer's (SPP-net's code: true, of fc6 "
        "and fc7)",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="arithmetic of convolutions and products; bfloat16 is faster where the CPU has it (ours)"
    )
    held_out_fraction: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="part of the training images kept aside for the held-out curve, which chooses nothing: the last "
        "weights are taken; no class loses its last image (ours). 0: all are trained on, no such curve (the authors)",
    )
    held_out_windows: int = Field(512, ge=1, le=100_000, description="windows of those images to measure on (ours)")
    eval_every: int = Field(1_000, ge=1, le=1_000_000, description="iterations between points of the curve")
    checkpoint_every: int = Field(1_000, ge=1, le=1_000_000, description="iterations between checkpoints")
    image_cache_mb: int = Field(
        1024, ge=0, le=1_000_000, description="MB (2^20 bytes) of decoded images, or with SPP of feature maps, to keep"
    )

    @model_validator(mode="after")
    def _limits_in_order(self) -> "FinetuneSettings":
        require_order("finetune", self, "bg_iou", "fg_iou")
        require_order("finetune", self, "bg_iou_low", "bg_iou", strict=True)
        return self


def check(params: Parameters) -> Iterator[str]:
    """Say so where images are asked for that are not trained on."""
    yield from check_images(params, "finetune.images", params.of("finetune", FinetuneSettings).images)
