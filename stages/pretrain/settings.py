"""Parameters of training from scratch on the dataset's classification set; the values are ours where none says more."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.networks.spec import MAX_SIDE_PX
from stages.settings import RateDrops, Settings

Sizes = Annotated[tuple[Annotated[int, Field(ge=16, le=MAX_SIDE_PX)], ...], Field(min_length=1, max_length=16)]


class PretrainSettings(Settings):
    """Group ``pretrain`` of params.yaml; read only where ``network.weights`` is ``pretrain``.

    The paper pre-trains on ILSVRC 2012, the authors' file with lr 0.01 and 310,000 iterations of 256, which is what a
    given weights file stands for. These defaults are ours, for the built-in classification set and the small network:
    half a minute on two cores.
    """

    iterations: int = Field(600, ge=1, le=10_000_000, description="SGD iterations")
    batch: int = Field(64, ge=1, le=4096, description="images per mini-batch, drawn with replacement")
    lr: float = Field(0.05, gt=0, le=10, description="learning rate at the start (Caffe's 0.01 without batch_norm)")
    step: RateDrops = Field(
        200, description="iterations after which the rate drops, each time; or a list: it drops at each of these"
    )
    gamma: float = Field(0.3, gt=0, le=1, description="factor by which the rate drops")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD momentum (Caffe's)")
    weight_decay: float = Field(0.0005, ge=0, le=1, description="L2 penalty on weights; biases have none (Caffe's)")
    batch_norm: bool = Field(
        True, description="train with batch normalisation and fold it into the layers at the end (networks without it)"
    )
    dropout: bool = Field(
        False, description="dropout while training from scratch; off, since in so few iterations it only slows learning"
    )
    crop: float = Field(
        0.8,
        gt=0,
        le=1,
        description="smallest side of the random square crop, as a part of the picture's shorter side (Krizhevsky "
        "et al. and SPP-net: 224 of 256 px, always: 0.875 for both)",
    )
    crop_max: float = Field(1.0, gt=0, le=1, description="largest side of the random square crop, likewise")
    sizes_px: Sizes | None = Field(
        None,
        description="SPP-net's multi-size training, with network.pyramid: sides to which crops are resized, one for "
        "each epoch in turn ([224, 180]); null: the network's own",
    )
    recolour: bool = Field(
        True, description="shuffle the colour channels and invert with probability 0.5; a digit is one in any colours"
    )
    colour_std: float = Field(
        0.0,
        ge=0,
        le=10,
        description="move a crop's colours along the principal components of the training pictures' pixels, by normal "
        "random numbers of so many standard deviations along each (Krizhevsky et al. and SPP-net: 0.1); 0: not",
    )
    mirror: bool = Field(False, description="mirror with probability 0.5; off, since mirrored digits are not digits")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="arithmetic of convolutions and products; bfloat16 is faster where the CPU has it"
    )
    split: str = Field("train", min_length=1, description="of a dataset of class folders: the split trained on")
    held_out_fraction: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="of a dataset of class folders: share of that split kept for the curve, not trained on",
    )
    eval_every: int = Field(100, ge=1, le=1_000_000, description="iterations between points of the curve")
    checkpoint_every: int = Field(200, ge=1, le=1_000_000, description="iterations between checkpoints")

    @model_validator(mode="after")
    def _crops_have_sides(self) -> "PretrainSettings":
        if self.crop > self.crop_max:
            raise ValueError(f"pretrain.crop = {self.crop:g} is more than pretrain.crop_max = {self.crop_max:g}")
        return self

    @model_validator(mode="after")
    def _enough_to_normalise(self) -> "PretrainSettings":
        if self.batch_norm and self.batch < 2:
            raise ValueError("pretrain.batch must be at least 2 with pretrain.batch_norm, which averages over a batch")
        return self
