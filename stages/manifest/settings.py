"""Parameters of group ``manifest``."""

from typing import Annotated

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
