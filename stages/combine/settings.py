"""Parameters of the ``combine`` stage."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from stages.common.settings import Settings, distinct

from .saved import NAME_PATTERN

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
