"""Parameters of scoring detections."""

from pydantic import Field

from stages.settings import Settings

# The sets within which Hoiem et al. (ECCV 2012) call two VOC classes similar; the paper's figure 5 uses them.
VOC_SIMILAR = (
    ("aeroplane", "bicycle", "boat", "bus", "car", "motorbike", "train"),
    ("bird", "cat", "cow", "dog", "horse", "sheep", "person"),
    ("chair", "diningtable", "sofa"),
    ("aeroplane", "bird"),
)


class EvaluateSettings(Settings):
    """How detections are scored."""

    voc_iou: float = Field(
        0.5, gt=0, le=1, description="least IoU with an object for a detection to be right in the VOC metrics"
    )
    ilsvrc: bool = Field(
        False,
        description="score by ILSVRC's rules, too: a small object's least IoU is below 0.5, a detection takes the best "
        "object not yet found, blacklisted classes of images are out (docs/ilsvrc.md)",
    )
    n_bootstrap: int = Field(
        1000,
        ge=0,
        le=100_000,
        description="resamples of the test images for the 95% interval of voc2010.mAP; 0: none",
    )
    examples_per_class: int = Field(
        6,
        ge=0,
        le=100,
        description="right, wrong and missed objects kept per class for the report's pictures",
    )
    similar_classes: tuple[tuple[str, ...], ...] = Field(
        VOC_SIMILAR,
        description="sets of classes that count as similar in the error analysis; names the dataset lacks are ignored",
    )
