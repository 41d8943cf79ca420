"""Parameters of the ``svm`` stage; each description says whose the value is: the paper's, its authors' code's, or ours.

Left out is their option ``k_folds``: it fits further SVMs to parts of the final cache, by which training images can be
scored that an SVM has not seen. Nothing here reads such scores, and their experiments set it to 0.
"""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, model_validator

from stages.features.settings import FeaturesSettings, check_stored
from stages.settings import Parameters, Settings, SplitNames, check_images


class SvmSettings(Settings):
    """Group ``svm`` of params.yaml: which classifier, on which layer, and how its negatives are mined."""

    classifier: Literal["svm", "softmax"] = Field(
        "svm", description="svm: train linear SVMs; softmax: the fine-tuned network's last layer (appendix B)"
    )
    layer: str = Field("fc7", min_length=1, description="feature layer that is scored (the paper)")
    C: float = Field(
        0.001, gt=0, le=1e6, description="weight of the hinge losses against the regulariser (the authors' code)"
    )
    positive_weight: float = Field(2.0, gt=0, le=1e6, description="factor on the positives' losses (the authors' code)")
    bias: float = Field(
        10.0, gt=0, le=1e6, description="constant feature; its weight is regularised too (the authors' code)"
    )
    target_norm: float = Field(
        20.0, gt=0, le=1e6, description="mean norm that features are scaled to (the authors' code)"
    )
    images: SplitNames | None = Field(
        None,
        description="splits to train on, of those that manifest.train lists; null: all of them (the paper, VOC 2010 to "
        "2012: the network on train, SVMs on trainval)",
    )
    negative_iou: float = Field(
        0.3,
        ge=0,
        le=1,
        description="a region whose IoU with every object of the class is below is a negative (the paper); 0: one "
        "that touches none",
    )
    positive_iou: float | None = Field(
        None,
        gt=0,
        le=1,
        description="proposals from this IoU with their nearest object on are positives of its class, beside the "
        "objects themselves, as in fine-tuning (appendix B: 0.5); null: objects alone (the paper)",
    )
    duplicate_iou: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="a negative is dropped whose IoU with a better proposal that is one, too, is above (SPP-net's "
        "paper: 0.7); null: none is",
    )
    drop_equal: bool = Field(
        False,
        description="of an image's regions that have the same cells of the same scale only the first can be a negative "
        "(SPP-net's code, instead of duplicate_iou; with features.method: spp)",
    )
    margin: float = Field(
        -1.0001, ge=-1e6, le=1e6, description="negatives scoring above are hard: cached (the authors' code)"
    )
    evict_below: float = Field(
        -1.2,
        ge=-1e6,
        le=1e6,
        description="after a fit, negatives scoring below leave (the authors' code; ILSVRC: -1.1)",
    )
    retrain_after: int = Field(
        2000, ge=0, le=10**9, description="refit a class once more new negatives than this came in (the authors' code)"
    )
    mine_images: int | None = Field(
        None,
        ge=1,
        le=10**9,
        description="images that negatives are mined on, drawn by the seed (the authors, ILSVRC: 5000 of val1); null: "
        "all that are annotated exhaustively",
    )
    passes: int = Field(1, ge=1, le=20, description="ordered passes over the train images (the paper: one)")
    solver: Literal["dual", "liblinear"] = Field(
        "dual",
        description="dual: warm-started coordinate descent, all cores, to svm.gap (ours); liblinear: the authors' "
        "program",
    )
    gap: float = Field(
        1e-4,
        ge=1e-6,
        le=1,
        description="dual: stop when the objective is at most this share above its minimum, by the duality gap (ours)",
    )
    mining_gap: float = Field(
        0.01,
        ge=1e-6,
        le=1,
        description="dual: the same of all fits of a class but its last, which only find hard negatives; one below "
        "svm.gap counts as svm.gap (ours)",
    )
    tolerance: float = Field(
        0.1,
        gt=0,
        le=10,
        description="liblinear: its -e; 0.1 is the authors' (its default); what it finds lies some % above the optimum",
    )
    memory_limit_mb: int = Field(
        2048,
        ge=1,
        le=10**7,
        description="MiB for cached negatives; liblinear: and its copy of them for the largest class (ours; the "
        "authors have no limit)",
    )

    @model_validator(mode="after")
    def _limits_in_order(self) -> "SvmSettings":
        if self.positive_iou is not None and self.positive_iou < self.negative_iou:
            raise ValueError(
                f"svm.positive_iou ({self.positive_iou}) must not be below svm.negative_iou ({self.negative_iou}): a "
                "region cannot be both"
            )
        return self


def check(params: Parameters) -> Iterator[str]:
    """Say so where the layer that it reads is not stored, its images are not trained on, or regions have no cells."""
    settings = params.of("svm", SvmSettings)
    yield from check_stored(params, "svm.layer", settings.layer)
    yield from check_images(params, "svm.images", settings.images)
    method = params.of("features", FeaturesSettings).method
    if settings.drop_equal and method != "spp":
        yield (
            f"svm.drop_equal: regions have cells with features.method: spp alone, and it is {method}; set "
            "svm.drop_equal to false (svm.duplicate_iou works with both)"
        )
