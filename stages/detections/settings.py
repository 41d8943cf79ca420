"""Parameters of the ``detect`` stage: the constants of the authors' VOC code as defaults (rcnn_test.m)."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from stages.settings import SavedName, Settings, distinct


class DetectSettings(Settings):
    """Group ``detect`` of params.yaml: what of the scored regions becomes a detection."""

    nms_iou: float = Field(
        0.3, gt=0, le=1, description="a detection is dropped when its IoU with a better one of its class is above"
    )
    max_per_class: int = Field(
        100, ge=1, le=10**5, description="candidates per class and image: its best regions, see order"
    )
    order: Literal["cut_then_suppress", "suppress_then_cut"] = Field(
        "cut_then_suppress",
        description="how a class's candidates are found, which are then regressed and suppressed by nms_iou: "
        "cut_then_suppress: the best max_per_class of all regions (R-CNN's VOC code); suppress_then_cut: of those that "
        "suppression by nms_iou leaves (SPP-net's code and R-CNN's for ILSVRC; for many like objects in a picture)",
    )
    rank_factor: int = Field(
        40,
        ge=1,
        le=10**6,
        description="a class keeps scores down to rank rank_factor x images of its candidates over the whole split",
    )
    score_floor: float | None = Field(
        None,
        ge=-1e6,
        le=1e6,
        description="regions scoring at or below are never candidates (SPP-net, ILSVRC: -1.5); null: no floor",
    )


class CombineSettings(Settings):
    """Group ``combine`` of params.yaml: whose detections are joined with the project's own."""

    detectors: Annotated[tuple[SavedName, ...], AfterValidator(distinct)] = Field(
        (),
        description="detections saved by `rcnn detections save NAME` whose scored windows join the project's own "
        "before the last suppression (docs/spp.md); []: the project's own alone, as detect left them",
    )
    nms_iou: float = Field(
        0.3,
        gt=0,
        le=1,
        description="a detection is dropped when its IoU with a better one of its class, of any detector, is above; "
        "of no effect without other detectors",
    )
