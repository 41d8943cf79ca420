"""Parameters of the ``bbox`` stage: the authors' constants as defaults (rcnn_train_bbox_regressor.m)."""

from collections.abc import Iterator

from pydantic import Field

from stages.features.settings import check_stored
from stages.settings import Parameters, Settings


class BboxSettings(Settings):
    """Group ``bbox`` of params.yaml: whether, from which layer and on which regions boxes are regressed."""

    enabled: bool = Field(True, description="off: detections keep their proposals' boxes")
    layer: str = Field("pool5", min_length=1, description="feature layer that is regressed from")
    ridge_lambda: float = Field(1000.0, gt=0, le=1e9, description="weight of the squared norm, bias included")
    min_iou: float = Field(
        0.6, ge=0, lt=1, description="a region is trained on if its best IoU with an object is above"
    )
    target_norm: float = Field(20.0, gt=0, le=1e6, description="mean norm that features are scaled to")
    memory_limit_mb: int = Field(
        2048,
        ge=1,
        le=10**7,
        description="MiB for training data; what exceeds it takes further passes over the features",
    )


def check_layer(params: Parameters) -> Iterator[str]:
    """Say so where the layer that it reads is not stored."""
    settings = params.of("bbox", BboxSettings)
    if settings.enabled:
        yield from check_stored(params, "bbox.layer", settings.layer)
