"""Parameters of segmentation (docs/segmentation.md); each description says whose the value is."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from cache.errors import StageError
from stages.settings import Parameters, Settings, distinct, one_or_list

# What is regressed beside the classes: overlap with the background, and with an object of any class.
Further = Literal["background", "object"]


class RegionOverlapsSettings(Settings):
    """Group ``region_overlaps`` of params.yaml: which objects count; no detector reads it."""

    min_object_px: int = Field(
        0,
        ge=0,
        le=10**8,
        description="an object of fewer pixels is void, in training and in the figures (ours; VOC: 0, all count)",
    )


class RegionFeaturesSettings(Settings):
    """Group ``region_features`` of params.yaml: what is known of a region; no detector reads it."""

    features: Literal["full", "fg", "full_fg"] = Field(
        "full_fg",
        description="full: the box's cached features; fg: of the same crop, all pixels outside the region at the mean; "
        "full_fg: both, one after the other (the paper's best)",
    )
    layer: str = Field("fc6", min_length=1, description="feature layer (the paper's best; its other: fc7)")
    max_regions: int | None = Field(
        300,
        ge=1,
        le=10**6,
        description="the first proposals of an image that take part, in training and in test; null: all (ours; the "
        "paper: CPMC's, about 150 an image)",
    )
    mirror_truth: bool = Field(
        False,
        description="the masks of training images' objects are trained on mirrored, too (O2P: true; ours: false, which "
        "saves two passes of each object)",
    )

    def of_a_row(self) -> dict[str, Any]:
        """Return what the features of a region that is not mirrored depend on, as JSON: part of keys."""
        return self.model_dump(mode="json", exclude={"mirror_truth"})


class BoxFeaturesSettings(Settings):
    """The parameters of group ``features`` that say which features of regions there can be."""

    whole: ClassVar[bool] = False

    layers: tuple[str, ...] = ()
    method: str = "warp"


def check_regions(settings: RegionFeaturesSettings, layers: Sequence[str], method: str) -> None:
    """StageError where features of regions are asked for that the boxes' have no layer or method for.

    Args:
        settings: what is asked for.
        layers: the stored layers of the boxes.
        method: ``features.method``.
    """
    if settings.layer not in layers:
        raise StageError(
            f"region_features.layer: {settings.layer!r} is not among the stored features ({', '.join(layers)}); add it "
            "to features.layers, or choose one of them"
        )
    if method != "warp" and settings.features != "full":
        raise StageError(
            f"region_features.features: {settings.features} is of crops, and features.method is {method}; set "
            "region_features.features to full, or features.method to warp"
        )
    if method != "warp" and settings.mirror_truth:
        raise StageError(
            f"region_features.mirror_truth: looks at crops, and features.method is {method}; set it to false, or "
            "features.method to warp"
        )


_Weight = Annotated[float, Field(gt=0, le=1e6)]
_Width = Annotated[float, Field(ge=0, le=1)]
_SEVERAL = (Field(min_length=1, max_length=20), AfterValidator(distinct), Tag(" "))


class SvrSettings(Settings):
    """Group ``svr`` of params.yaml: the regressors of a region's overlap with each class; no detector reads it."""

    C: Annotated[
        Annotated[_Weight, Tag("")] | Annotated[tuple[_Weight, ...], *_SEVERAL], Discriminator(one_or_list)
    ] = Field(
        3.0,
        description="weight of the losses against the regulariser (O2P); a list: the one with which the best-scored "
        "regions of the held-out training images overlap most",
    )
    epsilon: Annotated[
        Annotated[_Width, Tag("")] | Annotated[tuple[_Width, ...], *_SEVERAL], Discriminator(one_or_list)
    ] = Field(
        0.25,
        description="half width of the tube in which an error of the overlap costs nothing (O2P); a list: chosen as C, "
        "each with each",
    )
    best_iou: float = Field(
        0.5, ge=0, le=1, description="an object's best region counts twice if its mask IoU is above (O2P)"
    )
    held_out_fraction: float = Field(
        0.15,
        ge=0,
        le=0.9,
        description="share of the training images that no regressor sees: paste.threshold is chosen on them (ours)",
    )
    solver: Literal["dual", "liblinear"] = Field(
        "dual", description="dual: coordinate descent on rows in place, to svr.gap (ours); liblinear: its -s 12 (O2P)"
    )
    gap: float = Field(
        1e-3,
        ge=1e-6,
        le=1,
        description="dual: stop when the objective is at most this share above its minimum, by the duality gap (ours)",
    )
    tolerance: float = Field(0.01, gt=0, le=10, description="liblinear: its -e (O2P)")
    memory_limit_mb: int = Field(
        2048,
        ge=1,
        le=10**7,
        description="MiB for rows of features in memory; more are trained on in chunks, of which those after the first "
        "give only rows outside the tube (O2P's way)",
    )

    def pairs(self) -> list[tuple[float, float]]:
        """Return every C with every epsilon, in the lists' order."""
        weights, widths = (value if isinstance(value, tuple) else (value,) for value in (self.C, self.epsilon))
        return [(one, other) for one in weights for other in widths]


def check_svr(params: Parameters) -> Iterator[str]:
    """Say so where C or epsilon is to be chosen on held-out images, and none are held out."""
    settings = params.of("svr", SvrSettings)
    if len(settings.pairs()) > 1 and not settings.held_out_fraction:
        yield (
            "svr.C and svr.epsilon: of several values one is chosen on held-out training images, and "
            "svr.held_out_fraction is 0; set that above 0, or name one value of each"
        )


class HeldOutRegressorSettings(Settings):
    """The parameter of group ``svr`` that says which training images no regressor sees."""

    whole: ClassVar[bool] = False

    held_out_fraction: float = 0.15


class FurtherRegressorSettings(Settings):
    """The parameters of group ``paste`` that ask for a regressor beside the classes'."""

    whole: ClassVar[bool] = False

    background: bool = False
    rank_regions: int | None = None


class PasteSettings(Settings):
    """Group ``paste`` of params.yaml: which regions make the map of classes; no detector reads it."""

    background: bool = Field(
        False,
        description="one more regressor, of the background: a region that it scores best takes a place and is then not "
        "pasted (ours; O2P: false, whose background scores the threshold in every region)",
    )
    rank_regions: int | None = Field(
        None,
        ge=1,
        le=10**6,
        description="only so many regions of an image may be pasted: those with the largest overlap with an object of "
        "any class, as one more regressor says; null: all (ours, for selective search's order is random; O2P's regions "
        "come ranked)",
    )

    max_segments: int | None = Field(
        3, ge=1, le=10**6, description="regions of an image that may be pasted, best first (O2P); null: all"
    )
    duplicate_iou: float | None = Field(
        0.5,
        gt=0,
        lt=1,
        description="a region takes no place whose mask has a larger IoU with a better one that does: it is the same "
        "object once more (ours, for selective search's regions; O2P: null, whose CPMC regions are told apart before)",
    )
    threshold: Annotated[float, Field(ge=-10, le=10)] | Literal["train", "test"] = Field(
        "train",
        description="a region is pasted if its score is above: a number; train: risen until the held-out training "
        "images have as many regions as objects, on average (ours); test: the same on the test images, to paste.goal "
        "(O2P, which so looks at the images that it is tested on)",
    )
    first: float = Field(0.28, ge=-10, le=10, description="train, test: the threshold to begin at (O2P)")
    rise: float = Field(0.01, ge=0.001, le=1, description="train, test: by how much it rises (O2P)")
    per_rank: float = Field(
        0.02, ge=0, le=1, description="by how much the threshold of each further region of an image is higher (O2P)"
    )
    goal: float = Field(2.2, ge=0, le=1e6, description="test: regions per image, at most (O2P)")

    @property
    def least(self) -> float:
        """The lowest threshold that there can be."""
        return self.first if isinstance(self.threshold, str) else self.threshold


def further(settings: FurtherRegressorSettings | PasteSettings) -> tuple[Further, ...]:
    """Return what is regressed beside the classes, in the order of the model's rows."""
    asked: dict[Further, bool] = {"background": settings.background, "object": settings.rank_regions is not None}
    return tuple(name for name, wanted in asked.items() if wanted)


class SegmentEvaluateSettings(Settings):
    """Group ``segment_evaluate`` of params.yaml: the page; no detector reads it."""

    best_images: int = Field(4, ge=0, le=100, description="images with the highest IoU that the page shows (ours)")
    worst_images: int = Field(4, ge=0, le=100, description="and with the lowest (ours)")
    random_images: int = Field(6, ge=0, le=100, description="and drawn by the seed (ours)")
    picture_px: int = Field(260, ge=40, le=2000, description="longest side of a picture on the page (ours)")
    jpeg_quality: int = Field(80, ge=10, le=95, description="of the page's photographs (ours)")


def check_paste(params: Parameters) -> Iterator[str]:
    """Say what of the groups ``paste``, ``svr`` and ``region_features`` contradicts another parameter."""
    paste, regions = params.of("paste", PasteSettings), params.of("region_features", RegionFeaturesSettings)
    if paste.rank_regions and regions.max_regions and paste.rank_regions >= regions.max_regions:
        yield (
            f"paste.rank_regions ({paste.rank_regions}) must be below region_features.max_regions "
            f"({regions.max_regions}), or it chooses nothing; null: all"
        )
    fraction = params.of("svr", SvrSettings).held_out_fraction
    if paste.threshold == "train" and not fraction:
        yield (
            f"paste.threshold: train is found on held-out training images, and svr.held_out_fraction is {fraction:g}; "
            "set that above 0, or the threshold to a number"
        )
