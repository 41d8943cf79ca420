"""Parameters of OverFeat's detector (Sermanet et al. 2013): where the paper is silent the values are ours."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from stages.networks.architectures import ARCHITECTURES
from stages.networks.settings import NetworkSettings, Units
from stages.settings import Parameters, RateDrops, Settings, distinct, require_order
from stages.training.settings import SolverSettings

ScalePx = Annotated[int, Field(ge=16, le=2048)]


class DenseMapsSettings(Settings):
    """Group ``maps`` of kind overfeat: the sizes at which the convolutions see an image."""

    scales_px: Annotated[tuple[ScalePx, ...], AfterValidator(distinct)] | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="shorter sides of the image, px; null: OverFeat's six, of its accurate network [245, 281, 317, "
        "389, 425, 461], with as many windows of another",
    )
    storage: Literal["float16", "float32"] = Field("float16", description="precision in which maps are stored (ours)")


class HeldOutSettings(Settings):
    """The parameter of group ``finetune_dense`` that says how many training images nothing is trained on."""

    whole: ClassVar[bool] = False

    held_out_fraction: float = 0.1


class FinetuneDenseSettings(SolverSettings):
    """Group ``finetune_dense``: the fully connected layers, trained on windows to tell classes and background apart."""

    iterations: int = Field(
        20_000,
        ge=0,
        le=10_000_000,
        description="solver steps (ours); 0: the classifier as it is, without a class for background",
    )
    lr: float = Field(0.01, gt=0, le=10, description="learning rate at the start (ours)")
    step: RateDrops = Field(
        14_000,
        description="iterations after which the rate drops, each time; or a list: it drops at each of these (ours)",
    )
    gamma: float = Field(0.1, gt=0, le=1, description="factor by which the rate drops (ours; section 3.1: 0.5)")
    momentum: float = Field(0.6, ge=0, lt=1, description="SGD momentum (section 3.1)")
    mirror: bool = Field(True, description="train on each image's mirror image as well (section 3.1: flips)")
    weight_decay: float = Field(0.00001, ge=0, le=1, description="L2 penalty on weights (section 3.1), and on biases")
    images_per_batch: int = Field(4, ge=1, le=64, description="images of a mini-batch (ours)")
    positives: int = Field(8, ge=1, le=4096, description="at most so many windows of an image show an object (ours)")
    random_negatives: int = Field(8, ge=0, le=4096, description="background windows drawn at random (ours)")
    offending_negatives: int = Field(
        8,
        ge=0,
        le=4096,
        description="and the background windows that score worst, found anew in each iteration (section 5: a few "
        "random and the most offending ones; numbers are ours)",
    )
    background_pool: int = Field(
        300, ge=1, le=100_000, description="background windows of an image, drawn at random, that are scored for that"
    )
    fg_iou: float = Field(0.5, gt=0, le=1, description="IoU with an object from which a window shows it (ours)")
    bg_iou: float = Field(0.3, gt=0, le=1, description="a window is background below this IoU with all (ours)")
    context: bool = Field(
        False,
        description="whether the window of the same centre one scale below is seen as well (section 5's later result)",
    )
    dropout: bool = Field(
        True, description="dropout as the network has it (section 3.1: 0.5); false where there is little time to learn"
    )
    difficult: bool = Field(False, description="whether difficult objects are objects to train on (ours)")
    held_out_fraction: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="share of the training images that nothing is trained on: merge.t is chosen on them (ours)",
    )

    @model_validator(mode="after")
    def _limits_in_order(self) -> "FinetuneDenseSettings":
        require_order("finetune_dense", self, "bg_iou", "fg_iou")
        if self.random_negatives + self.offending_negatives < 1:
            raise ValueError("finetune_dense: random_negatives and offending_negatives are both 0; set one of them")
        if self.context and self.iterations == 0:
            raise ValueError(
                "finetune_dense: the window around another (context) is not looked at by a classifier as it is "
                "(iterations: 0); set context to false"
            )
        return self


class RegressSettings(SolverSettings):
    """Group ``regress``: the network that says where in its window an object lies (section 4.2)."""

    iterations: int = Field(20_000, ge=1, le=10_000_000, description="solver steps (ours)")
    lr: float = Field(
        0.005, gt=0, le=10, description="learning rate at the start (ours; 0.02 throws layers of the paper's sizes off)"
    )
    step: RateDrops = Field(
        13_333,
        description="iterations after which the rate drops, each time; or a list: it drops at each of these (ours)",
    )
    gamma: float = Field(0.1, gt=0, le=1, description="factor by which the rate drops (ours)")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD momentum (ours)")
    mirror: bool = Field(True, description="train on each image's mirror image as well (section 3.1: flips)")
    weight_decay: float = Field(0.0001, ge=0, le=1, description="L2 penalty on weights and biases (ours)")
    batch: int = Field(128, ge=1, le=4096, description="windows of a mini-batch (ours)")
    images_per_batch: int = Field(8, ge=1, le=256, description="images that they are drawn from (ours)")
    units: tuple[Units, Units] = Field((4096, 1024), description="outputs of its two hidden layers (the paper)")
    per_class: bool = Field(
        False, description="one last layer for each class, or one for all (section 4.4: one for all is better)"
    )
    object_part: float = Field(
        0.5,
        gt=0,
        le=1,
        description="a window is trained on if it holds at least this part of an object's area (ours; the paper: IoU "
        "of at least 0.5 with it)",
    )
    difficult: bool = Field(False, description="whether difficult objects are objects to train on (ours)")


def check_windows(params: Parameters) -> Iterator[str]:
    """Say so where the network has no windows, whatever its input, before it is trained."""
    network = params.of("network", NetworkSettings)
    if network.fc is None and ARCHITECTURES[network.name].fc6 is None:
        yield (
            f"network.fc: {network.name} has no fully connected layer that takes pool5, and so no windows; set "
            "network.fc, such as [1024, 1024], and network.pyramid to one level, such as [4]"
        )
    elif network.pyramid is not None and len(network.pyramid) > 1:
        yield (
            f"network.pyramid: {list(network.pyramid)} has several levels, and windows need a regular pooling; set "
            "it to one level, such as [4]"
        )


class DenseMirror(Settings):
    """The parameter of group ``finetune_dense`` that says whether maps of mirror images are needed."""

    whole: ClassVar[bool] = False

    mirror: bool = True


class RegressMirror(Settings):
    """The parameter of group ``regress`` that says whether maps of mirror images are needed."""

    whole: ClassVar[bool] = False

    mirror: bool = True


class SlideSettings(Settings):
    """Group ``slide``: which windows of an image are looked at."""

    stride: Literal["fine", "coarse"] = Field(
        "fine",
        description="fine: at every cell of the map, which is the last pooling at all its offsets (section 3.3); "
        "coarse: at the pooling's own stride",
    )


class TopSettings(Settings):
    """The parameter of group ``merge`` that says for which classes a regressor by class is asked."""

    whole: ClassVar[bool] = False

    k: int | None = None


class MergeSettings(Settings):
    """Group ``merge``: how a class's boxes in an image become detections (section 4.3)."""

    method: Literal["merge", "nms"] = Field(
        "merge", description="merge: the paper's greedy merging; nms: the regressed boxes, suppressed"
    )
    t: Annotated[float, Field(gt=0, le=2)] | None = Field(
        None,
        description="boxes merge while their match score is at most this (ours; the paper gives no value); null: the "
        "best of 0.2 to 0.9 on the training images held out",
    )
    k: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="classes of each scale whose boxes are taken; null: all (ours)",
    )
    max_windows: int = Field(300, ge=1, le=5000, description="best windows of a class in an image that enter (ours)")
    score_floor: float = Field(0.02, ge=0, lt=1, description="and windows scoring at or below do not (ours)")
    then_nms: float | None = Field(
        None, gt=0, le=1, description="IoU above which the worse of two merged boxes is dropped; null: none is"
    )
    nms_iou: float = Field(
        0.3, gt=0, le=1, description="the same for windows (no_bbox), and for regressed boxes with method nms (R-CNN's)"
    )


def check_t(params: Parameters) -> Iterator[str]:
    """Say so where nothing is held out to choose ``merge.t`` on."""
    aside = params.of("finetune_dense", HeldOutSettings).held_out_fraction
    if params.of("merge", MergeSettings).t is None and aside == 0:
        yield (
            "merge.t: null chooses it on training images held out, and finetune_dense.held_out_fraction is 0; set one "
            "of them"
        )


class LocalisationSettings(Settings):
    """Group ``localisation``: the error rate of one box per guessed class (ILSVRC's localisation task)."""

    guesses: int = Field(5, ge=1, le=1000, description="guesses that an image has; one of them must be right")
    iou: float = Field(0.5, gt=0, le=1, description="IoU with an object of that class from which a box is right")
    k: int | None = Field(
        5,
        ge=1,
        le=100_000,
        description="classes of each scale whose boxes are merged, in place of merge.k (the paper's top k; 5: ILSVRC's "
        "guesses); a smaller merge.k holds here too; null: as merge.k",
    )
    first_scales: Annotated[tuple[Annotated[int, Field(ge=1, le=64)], ...], AfterValidator(distinct)] = Field(
        (1, 2, 4), min_length=1, max_length=64, description="rows of the table: merged boxes of so many of the scales"
    )
