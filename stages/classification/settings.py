"""Parameters of groups ``classify_svm`` and ``classify``: which views of a picture, and how they are judged."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from stages.settings import Parameters, SavedName, Settings, distinct

LayerName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.]*(/[1-9][0-9]?)?$")]


class ClassifySvmSettings(Settings):
    """Group ``classify_svm`` of params.yaml, for classification (docs/classification.md); no detector reads it."""

    layers: Annotated[tuple[LayerName, ...], AfterValidator(distinct)] = Field(
        ("pool5", "fc6", "fc7"),
        min_length=1,
        description="features, one row of the table each: pool5 (with network.pyramid the whole pyramid), pool5/6 (its "
        "level of 6 x 6 bins alone), fc6, fc7, or any torchvision feature-extraction node (conv layers: of crops only)",
    )
    view: Literal["full", "crop"] | None = Field(
        None, description="the full picture, or its centre crop; null: full where the network has a pyramid"
    )
    short_side_px: int | None = Field(
        None,
        ge=16,
        le=4096,
        description="the picture's shorter side (the paper: 224, and 392 for VOC 2007); null: the network's input",
    )
    C: float = Field(1.0, gt=0, le=1e6, description="the SVMs' soft margin parameter")
    protocol: Literal["voc", "splits"] = Field(
        "voc",
        description="voc: train on split train, mean AP over the classes on split test; splits: mean class accuracy "
        "over random splits of all pictures (Caltech101)",
    )
    n_splits: int = Field(10, ge=1, le=1000, description="splits: how many")
    train_per_class: int = Field(30, ge=1, le=100_000, description="splits: pictures of each class to train on")
    test_per_class: int = Field(
        50, ge=1, le=100_000, description="splits: at most so many others of each class to test"
    )


Method = Literal[
    "1_crop",
    "10_crops",
    "1_full",
    "8_crops_2_full",
    "dense_coarse",
    "dense_fine",
    "dense_coarse_unmirrored",
    "dense_fine_unmirrored",
]
_ScalePx = Annotated[int, Field(ge=16, le=2048)]


class ClassifySettings(Settings):
    """Group ``classify`` of params.yaml, for classification (docs/classification.md); no detector reads it."""

    views: Annotated[tuple[Method, ...], AfterValidator(distinct)] | None = Field(
        None,
        min_length=1,
        description="ways to test a picture: 1_crop (centre), 10_crops (corners, centre, mirrored), 1_full, "
        "8_crops_2_full (corners and the full picture, mirrored); dense_coarse, dense_fine: OverFeat's windows "
        "over it and its mirror image, at the last pooling's stride or at every cell; _unmirrored: over it alone; "
        "null: all of the first four that the network can do",
    )
    short_side_px: int | None = Field(
        None,
        ge=16,
        le=4096,
        description="the picture's shorter side before views are taken; null: 8/7 of the network's input (256 for 224)",
    )
    scales_px: Annotated[tuple[_ScalePx, ...], AfterValidator(distinct)] | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="dense views: the picture's shorter sides, averaged over; null: OverFeat's six, of its accurate "
        "network [245, 281, 317, 389, 425, 461], with as many windows of another",
    )
    committee: Annotated[tuple[SavedName, ...], AfterValidator(distinct)] = Field(
        (),
        description="runs put aside by `rcnn classification save NAME` whose class probabilities are averaged with "
        "this run's, in rows of their own (OverFeat: 7 models); []: none",
    )


def check_scales(params: Parameters) -> Iterator[str]:
    """Say so where scales are given and no view looks at them."""
    settings = params.of("classify", ClassifySettings)
    if settings.scales_px is not None and not any(name.startswith("dense") for name in settings.views or ()):
        yield (
            "classify.scales_px: is for dense views, and classify.views lists none; list dense_coarse or dense_fine "
            "there, or set classify.scales_px to null"
        )
