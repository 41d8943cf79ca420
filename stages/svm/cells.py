"""Which regions of an image SPP-net's network cannot tell apart (the authors' spp_train.m; ``svm.drop_equal``)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.errors import StageError

from .hard_negatives import MiningImage, Responses


def spp_responses(features: Mapping[str, Any], sides_px: Mapping[int, int]) -> Responses:
    """Return what gives the scale and cells of an image's regions (``stages.features.spp.windows.responses``).

    Args:
        features: summary of the features' list: network, method, scales.
        sides_px: each image's shorter side, by its id.

    Raises:
        StageError: the features are not SPP-net's.
    """
    if features.get("method") != "spp":
        raise StageError("svm.drop_equal: regions have cells with features.method: spp alone; set it to false")
    # torch takes seconds to load, and SVMs do without
    from stages.features.spp.windows import responses
    from stages.networks.network import build
    from stages.networks.receptive_field import map_geometry

    geometry = map_geometry(build(features["network"], 1, device="meta"))
    scales, target = tuple(features["scales_px"]), features["target_side_px"] or 1  # of one scale there is no choice

    def of_image(image: MiningImage) -> NDArray[np.int64]:
        return responses(image.boxes, sides_px[image.image_id], scales, target, geometry)

    return of_image
