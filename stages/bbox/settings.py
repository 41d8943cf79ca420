"""Parameters of the ``bbox`` stage; each description says whose the value is: the paper's, its authors' code's or ours.

Boxes are regressed once. To regress a regressed box again is left out: the authors found that it brings nothing
(appendix C), and their code does not.
"""

from collections.abc import Iterator

from pydantic import Field

from stages.features.settings import check_stored
from stages.settings import Parameters, Settings, SplitNames, check_images


class BboxSettings(Settings):
    """Group ``bbox`` of params.yaml: whether, from which layer and on which regions boxes are regressed."""

    enabled: bool = Field(True, description="off: detections keep their proposals' boxes")
    images: SplitNames | None = Field(
        None,
        description="splits to train on, of those that manifest.train lists; null: all of them (the authors, ILSVRC: "
        "val1, beside val1 and train_N for the network and the SVMs)",
    )
    layer: str = Field("pool5", min_length=1, description="feature layer that is regressed from (the paper)")
    ridge_lambda: float = Field(
        1000.0, gt=0, le=1e9, description="weight of the squared norm, bias included (the paper; SPP-net's code: 4000)"
    )
    min_iou: float = Field(
        0.6,
        ge=0,
        lt=1,
        description="a region is trained on if its best IoU with an object is above (the paper; SPP-net's code: 0.5)",
    )
    shared: bool = Field(
        False,
        description="one regressor for every class, trained on the pairs of all together (OverFeat's way, section 4.6 "
        "of the paper; docs/overfeat.md), in place of one for each",
    )
    target_norm: float = Field(
        20.0, gt=0, le=1e6, description="mean norm that features are scaled to (the authors' code)"
    )
    memory_limit_mb: int = Field(
        2048,
        ge=1,
        le=10**7,
        description="MiB for training data; what exceeds it takes further passes over the features (ours)",
    )


def check(params: Parameters) -> Iterator[str]:
    """Say so where the layer that it reads is not stored, or its images are not trained on."""
    settings = params.of("bbox", BboxSettings)
    if settings.enabled:
        yield from check_stored(params, "bbox.layer", settings.layer)
        yield from check_images(params, "bbox.images", settings.images)
