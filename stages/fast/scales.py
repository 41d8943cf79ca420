"""The choice of one of several scales for each region (Fast R-CNN section 2.4, after SPP-net)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stages.boxes.geometry import area

from .images import ScaledSize

TARGET_PX = 224  # a region is to be about so large, squared, as the objects that the network was pre-trained on


def nearest_scales(boxes: NDArray[np.floating], sizes: Sequence[ScaledSize]) -> NDArray[np.int64]:
    """Choose the scale at which each region's area is nearest to 224 x 224 px, the first of equals: int64 [n].

    As the authors' fast-rcnn (test.py, _project_im_rois), whose boxes are one pixel larger.

    Args:
        boxes: [n, 4], px of the original image.
        sizes: that image at each scale.
    """
    scaled = area(boxes)[:, None] * np.array([size.scale_x * size.scale_y for size in sizes])
    chosen: NDArray[np.int64] = np.abs(scaled - TARGET_PX**2).argmin(axis=1)
    return chosen
