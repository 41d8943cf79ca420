"""Parameters of group ``diagnose``, every detector's (docs/analysis.md)."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from stages.settings import NAME_PATTERN, Settings


class DiagnoseSettings(Settings):
    """How a detector's results are diagnosed; ``rcnn diagnose`` has the same as options.

    There a table is given by its file, and the dataset's names choose similar classes where none are given.
    """

    iou: float = Field(0.5, gt=0.1, le=1, description="least IoU with an object for a detection to be right")
    matching: Literal["voc", "hoiem"] = Field(
        "voc",
        description="voc: a detection is of its nearest object, and what finds a difficult one is ignored (VOC's "
        "devkit); hoiem: of the best object not yet found, and the second on a difficult one is wrong (the authors "
        "of the diagnosis, Hoiem et al.)",
    )
    similar_classes: Literal["voc", "coco"] | tuple[tuple[str, ...], ...] = Field(
        "voc",
        description="sets of classes that count as similar: voc (Hoiem et al.'s, the paper), coco (its "
        "supercategories), or a list of lists; names the dataset lacks are ignored",
    )
    background_twice: bool = Field(
        False,
        description="count the x axes as the authors' program does (displayFPTrend.m, displayDetectionTrend.m; two "
        "slips): false positives on background twice, and a set's detections in multiples of one class's objects; "
        "false: once, and of all its objects",
    )
    normal_share: float = Field(
        0.15,
        gt=0,
        description="number of objects that a class is normalised to, as a part of the number of images; the authors: "
        "0.15",
    )
    normal_objects: float | None = Field(None, gt=0, description="that number itself, in place of normal_share")
    characteristics: Annotated[str, StringConstraints(pattern=NAME_PATTERN)] | None = Field(
        None,
        description="NAME of a table analysis/characteristics/NAME.csv of further characteristics of objects "
        "(docs/analysis.md)",
    )
    max_classes: int = Field(
        20, ge=1, le=1000, description="classes shown one by one (those with most test objects); the JSON has all"
    )
