"""Parameters of group ``manifest``."""

from typing import Annotated

from pydantic import AfterValidator, Field

from stages.settings import Settings, distinct


class ManifestSettings(Settings):
    """Which images and classes are used."""

    train: Annotated[str, Field(min_length=1, description="split to train on, e.g. train or trainval")] = "train"
    test: Annotated[str, Field(min_length=1, description="split to test on")] = "test"
    classes: Annotated[
        Annotated[tuple[str, ...], AfterValidator(distinct)] | None,
        Field(min_length=1, description="classes to detect, in this order; null: all that the dataset has"),
    ] = None
