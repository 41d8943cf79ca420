"""Parameters of the ``detect`` stage: the authors' constants as defaults (rcnn_test.m)."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from stages.settings import Settings, distinct

from .saved import NAME_PATTERN


class DetectSettings(Settings):
    """Group ``detect`` of params.yaml: what of the scored regions becomes a detection."""

    nms_iou: float = Field(
        0.3, gt=0, le=1, description="a detection is dropped when its IoU with a better one of its class is above"
    )
    max_per_class: int = Field(
        100, ge=1, le=10**5, description="best regions per class and image that enter suppression"
    )
    rank_factor: int = Field(
        40, ge=1, le=10**6, description="a class keeps scores down to rank rank_factor x images over the whole split"
    )
    score_floor: float | None = Field(
        None, ge=-1e6, le=1e6, description="regions scoring at or below are never detections; null: no floor"
    )


SavedName = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]


class CombineSettings(Settings):
    """Group ``combine`` of params.yaml: whose detections are joined with the project's own."""

    detectors: Annotated[tuple[SavedName, ...], AfterValidator(distinct)] = Field(
        (),
        description="detections saved by `rcnn detections save NAME` whose scored windows join the project's own "
        "before suppression (docs/spp.md); []: the project's own alone, as detect left them",
    )
    nms_iou: float = Field(
        0.3,
        gt=0,
        le=1,
        description="a detection is dropped when its IoU with a better one of its class, of any detector, is above; "
        "of no effect without other detectors",
    )
