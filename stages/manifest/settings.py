"""Parameters of group ``manifest``."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from stages.settings import Settings, SplitNames, distinct


class ManifestSettings(Settings):
    """Which images and classes are used."""

    train: Annotated[
        SplitNames,
        Field(
            description="split to train on, e.g. train or trainval; or a list of splits, whose images are taken "
            "together and of which finetune.images, svm.images and bbox.images may each name some"
        ),
    ] = "train"
    test: Annotated[str, Field(min_length=1, description="split to test on")] = "test"
    train_limit: Annotated[
        int | None,
        Field(
            ge=1,
            description="of training images that are annotated in part (exhaustive: false), only so many of each "
            "class (ILSVRC's train_N; the paper: 1000); null: all",
        ),
    ] = None
    train_limit_of: Annotated[
        Literal["boxes", "images"],
        Field(
            description="what train_limit counts: boxes, without the others (the paper), or images (the authors' code)"
        ),
    ] = "boxes"
    classes: Annotated[
        Annotated[tuple[str, ...], AfterValidator(distinct)] | None,
        Field(min_length=1, description="classes to detect, in this order; null: all that the dataset has"),
    ] = None
    drop_duplicates: Annotated[
        str | None,
        Field(
            min_length=1,
            description="a list of images to leave out of train and of test's scores, as `rcnn dataset duplicates` "
            "writes it, relative to the project's root; a list that was edited is read again by `dvc repro -f -s "
            "manifest`; null: none",
        ),
    ] = None
