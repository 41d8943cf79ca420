"""Parameters of groups ``rpn`` and ``propose``: the Region Proposal Network and what of its output is a proposal."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from stages.settings import Settings, distinct, require_order
from stages.training.settings import SolverSettings

Scale = Annotated[float, Field(ge=1, le=4096)]
Ratio = Annotated[float, Field(gt=0.01, lt=100)]


class AnchorSettings(Settings):
    """What the RPN looks for and how it learns it; Faster R-CNN section 3.1, py-faster-rcnn where it differs."""

    scales_px: Annotated[tuple[Scale, ...], AfterValidator(distinct)] = Field(
        (128, 256, 512),
        min_length=1,
        max_length=16,
        description="sides of the square anchors, px of the resized image (the paper); choose those of your objects",
    )
    ratios: Annotated[tuple[Ratio, ...], AfterValidator(distinct)] = Field(
        (0.5, 1, 2), min_length=1, max_length=16, description="heights of the anchors by their widths (the paper)"
    )
    anchors: Literal["authors", "exact"] = Field(
        "authors",
        description="authors: sides rounded as py-faster-rcnn rounds them (184 x 96 ...); exact: sides of exactly that "
        "area and ratio (torchvision)",
    )
    centres: Literal["own", "authors"] = Field(
        "own",
        description="own: anchors are centred on the receptive field of the network's cells (ours; the same for VGG-16)"
        "; authors: at 7.5 + 16 i, whatever the network, whose map must then have a stride of 16 px",
    )
    channels: Annotated[int, Field(ge=8, le=4096)] | None = Field(
        None, description="outputs of the 3 x 3 convolution; null: 512 for vgg16, else 256 (the paper)"
    )
    objectness: Literal["softmax", "logistic"] = Field(
        "softmax", description="two scores an anchor (the paper), or one (its footnote, torchvision)"
    )
    positive_iou: float = Field(
        0.7, gt=0, le=1, description="an anchor is positive from this IoU with an object on (the paper); so is the best"
    )
    negative_iou: float = Field(0.3, ge=0, lt=1, description="and negative below this IoU with all objects (the paper)")
    batch: int = Field(256, ge=2, le=65_536, description="anchors of an image that are trained on (the paper)")
    positive_fraction: float = Field(
        0.5, gt=0, le=1, description="at most this part of them is positive, the rest negative (the paper)"
    )
    border_px: int | None = Field(
        0,
        ge=0,
        le=4096,
        description="anchors that leave the image by more than this are not trained on (the paper: 0); null: all are",
    )
    loss: Literal["authors", "paper"] = Field(
        "authors",
        description="of the boxes: authors: smooth L1 of sigma 3, summed, by the anchors trained on (py-faster-rcnn); "
        "paper: standardised targets, sigma 1, lambda 10, by the positions of the map (equation 1)",
    )
    difficult: bool = Field(
        False, description="whether difficult objects are objects to train on (the authors' programs: false)"
    )

    @model_validator(mode="after")
    def _limits_in_order(self) -> "AnchorSettings":
        require_order("rpn", self, "negative_iou", "positive_iou")
        return self


class RpnShapeSettings(Settings):
    """Those parameters of group ``rpn`` that say what its head is: one trained with others is another head."""

    whole: ClassVar[bool] = False

    scales_px: tuple[float, ...] = (128, 256, 512)
    ratios: tuple[float, ...] = (0.5, 1, 2)
    anchors: Literal["authors", "exact"] = "authors"
    centres: Literal["own", "authors"] = "own"
    channels: int | None = None
    objectness: Literal["softmax", "logistic"] = "softmax"


class RpnSettings(SolverSettings, AnchorSettings):
    """Group ``rpn`` of a detector trained in steps: the RPN and the schedule of both its trainings."""


class ProposeSettings(Settings):
    """Group ``propose``: which of the scored, moved anchors are proposals (the paper, section 3.3)."""

    before_nms: int | None = Field(
        6000, ge=1, le=10**7, description="best anchors that enter suppression, of test images (the paper); null: all"
    )
    train_before_nms: int | None = Field(
        None, ge=1, le=10**7, description="and of training images (the authors' code, trained in steps: all)"
    )
    nms_iou: float | None = Field(
        0.7, gt=0, le=1, description="IoU above which the worse of two is dropped (the paper); null: none is (Table 1)"
    )
    after_nms: int = Field(300, ge=1, le=10**6, description="best proposals that a test image keeps (the paper)")
    train_after_nms: int = Field(2000, ge=1, le=10**6, description="and a training image (the paper)")
    min_side_px: float = Field(
        16, ge=0, le=4096, description="proposals with a side below this, px of the original image, go (authors' code)"
    )
    rank: Literal["score", "random"] = Field(
        "score", description="by objectness, or as many drawn at random (Table 1's row without cls)"
    )
    regress: bool = Field(True, description="whether anchors are moved by their regression (Table 1: without reg)")


class SuppressionSettings(Settings):
    """Those parameters of group ``propose`` that hold for the proposals that joint training makes on its way, too."""

    whole: ClassVar[bool] = False

    nms_iou: float | None = 0.7
    min_side_px: float = 16
