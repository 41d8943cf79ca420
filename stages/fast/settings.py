"""Parameters of groups ``fast`` and ``roi_detect``: Fast R-CNN's training on regions, and its detections."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from stages.settings import RateDrops, Settings, distinct, require_order
from stages.training.settings import NO_RESULT, SolverSettings

# The project's own proposals, or the list that a node of another detector makes: faster/propose_1.
Source = Annotated[str, Field(pattern=r"^(proposals|[A-Za-z0-9][A-Za-z0-9_-]{0,63}/[a-z0-9_]+)$")]
Side = Annotated[int, Field(ge=16, le=8192)]  # of a resized image, px
Rank = Annotated[int, Field(ge=1, le=4096)]  # of fc6 and fc7, which have at most 4,096 values


class SourceSettings(Settings):
    """Group ``regions`` of kind fast: whose proposals it is trained on and tested on (Faster R-CNN, Table 1).

    Which files its nodes read, and so its dvc.yaml, follow from it: no result depends on the name.
    """

    train: Source = Field(
        "proposals",
        description="whose proposals it is trained on: proposals: the project's; or another detector's, as "
        "faster/propose_1; `rcnn detector write` after a change",
    )
    test: Source = Field(
        "proposals", description="and whose it finds the objects among, of test images and new ones; likewise"
    )


class RoiSettings(Settings):
    """The regions that a mini-batch takes of an image, and how each is pooled; py-faster-rcnn's values."""

    rois_per_image: int = Field(64, ge=1, le=4096, description="regions of an image in a mini-batch (the paper)")
    fg_fraction: float = Field(0.25, gt=0, le=1, description="at most this part of them shows an object (the paper)")
    fg_iou: float = Field(0.5, gt=0, le=1, description="IoU with an object from which a region shows it (the paper)")
    bg_iou: float = Field(0.5, gt=0, le=1, description="a region is background below this IoU (the paper)")
    bg_iou_low: float = Field(
        0.0, ge=0, lt=1, description="and not below this (py-faster-rcnn; Fast R-CNN's paper and MATLAB: 0.1)"
    )
    pooling: Literal["max", "align"] = Field(
        "max", description="max: RoI pooling, to whole cells (the paper); align: RoIAlign, bilinear (He et al. 2017)"
    )
    cells: Literal["authors", "own"] = Field(
        "authors",
        description="where pooling takes a cell of the map to lie: authors: at whole strides from the image's edge; "
        "own: at the centre of its receptive field (ours)",
    )
    sigma: float = Field(
        1.0,
        ge=0.1,
        le=100,
        description="of the boxes' smooth L1, which turns from square to line at 1 / sigma^2 (Fast R-CNN: 1); 3 pulls "
        "up to nine times as hard near the end, which helps a short training (torchvision)",
    )
    difficult: bool = Field(
        False, description="whether difficult objects are objects to train on (the authors' programs: false)"
    )

    def identity(self) -> dict[str, Any]:
        """Return the parameters that a training depends on, as JSON: ``sigma`` only where it is not the paper's.

        Networks were trained, and named, before it could be another.
        """
        return {name: value for name, value in self.model_dump(mode="json").items() if (name, value) != ("sigma", 1)}

    @model_validator(mode="after")
    def _limits_in_order(self) -> "RoiSettings":
        require_order("fast", self, "bg_iou", "fg_iou")
        require_order("fast", self, "bg_iou_low", "bg_iou", strict=True)
        return self


class JointRoiSettings(RoiSettings):
    """Group ``fast`` of a detector that is trained jointly: the values that py-faster-rcnn has there."""

    rois_per_image: int = Field(128, ge=1, le=4096, description="regions of an image in a step (py-faster-rcnn)")


class FastSettings(SolverSettings, RoiSettings):
    """Group ``fast`` of a detector trained in steps: Fast R-CNN and its schedule, the same for all its trainings."""

    iterations: int = Field(40_000, ge=1, le=10_000_000, description="solver steps (the paper)")
    step: RateDrops = Field(
        30_000, description="iterations after which the rate drops, each time; or a list: it drops at each of these"
    )
    targets: Literal["data", "fixed"] = Field(
        "data",
        description="what box targets are standardised by: data: each class's own mean and deviation (trained in "
        "steps); fixed: mean 0, deviations 0.1, 0.1, 0.2, 0.2 (trained jointly)",
    )
    images_per_batch: int = Field(2, ge=1, le=64, description="images of a mini-batch (the paper)")
    heads: Literal["new", "kept"] = Field(
        "new",
        description="last layers of the second training: new ones (py-faster-rcnn), or those of the first (the "
        "authors' MATLAB program); of no effect where there is one training (kind fast)",
    )

    def identity(self) -> dict[str, Any]:
        """Return the parameters that the result depends on, as JSON; of ``sigma`` as :class:`RoiSettings` does."""
        return {name: value for name, value in RoiSettings.identity(self).items() if name not in NO_RESULT}


class ScalesSettings(Settings):
    """The parameter of group ``roi_detect`` that says whether one map of an image is enough."""

    whole: ClassVar[bool] = False

    scales_px: tuple[int, ...] | None = None


class RoiDetectSettings(Settings):
    """Group ``roi_detect``: what of the scored regions becomes a detection; py-faster-rcnn's test."""

    score_floor: float = Field(0.05, ge=0, lt=1, description="detections scoring at or below are none (authors' code)")
    nms_iou: float = Field(
        0.3, gt=0, le=1, description="a detection is dropped when its IoU with a better one of its class is above"
    )
    max_per_image: int | None = Field(
        100, ge=1, le=10**6, description="best detections of an image, over all classes (authors' code); null: all"
    )
    rank_factor: int | None = Field(
        None,
        ge=1,
        le=10**6,
        description="a class keeps scores down to rank rank_factor x images over the whole split, R-CNN's rule (40; "
        "also the authors' MATLAB program); null: no such limit",
    )
    scales_px: Annotated[tuple[Side, ...], AfterValidator(distinct)] | None = Field(
        None,
        min_length=1,
        max_length=16,
        description="shorter sides of the image at which maps are computed, each region looked at on the one where "
        "its area is nearest to 224 x 224 px (Fast R-CNN, 5 scales: [480, 576, 688, 864, 1200]); null: on the one of "
        "maps.short_px; not for kind faster, which stores that one",
    )
    scales_long_px: Side = Field(
        2000, description="but the longer side at most this (Fast R-CNN, 5 scales); of no effect where there are none"
    )
    svd: tuple[Rank, Rank] | None = Field(
        None,
        description="ranks to which fc6 and fc7 are reduced at test by a truncated SVD ([1024, 256]); null: they are "
        "used as they are",
    )
