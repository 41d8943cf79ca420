"""Images as Fast and Faster R-CNN's networks see them: at one scale, or its mirror image (Fast R-CNN section 5.2)."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.boxes.geometry import Boxes
from stages.networks.pixels import scaled_image
from stages.networks.spec import InputSpec

SHORT_PX, LONG_PX = 600, 1000  # the paper's


class ScaledSize(NamedTuple):
    """A resized image's sides in px, and how far it is stretched in either direction.

    Both programs of the authors stretch by nearly one number. py-faster-rcnn multiplies boxes by the number before
    sides are rounded; here boxes follow the pixels, so that a box of the whole image is one of the whole resized
    image. The two are at most half a pixel apart.
    """

    width: int
    height: int
    scale_x: float
    scale_y: float

    def scaled(self, boxes: NDArray[Any]) -> Boxes:
        """Boxes of the image, in pixels of the resized one: [n, 4] -> float32 [n, 4]."""
        return self._times(boxes, self.scale_x, self.scale_y)

    def unscaled(self, boxes: NDArray[Any]) -> Boxes:
        """Invert :meth:`scaled`: [n, 4] -> float32 [n, 4]."""
        return self._times(boxes, 1 / self.scale_x, 1 / self.scale_y)

    @staticmethod
    def _times(boxes: NDArray[Any], x: float, y: float) -> Boxes:
        b = np.asarray(boxes, np.float64).reshape(-1, 4)
        return (b * [x, y, x, y]).astype(np.float32)


def scaled_size(width: int, height: int, short_px: int = SHORT_PX, long_px: int | None = LONG_PX) -> ScaledSize:
    """Work out to what an image is resized: its shorter side ``short_px``, but its longer at most ``long_px``.

    As py-faster-rcnn (prep_im_for_blob): ``short_px / shorter``, or where ``round(scale * longer)`` is above
    ``long_px``, ``long_px / longer``; then both sides are rounded, a half to the even number as OpenCV does. No side
    is less than 1 px. An image may grow. ``long_px`` None: no limit.
    """
    shorter, longer = sorted((width, height))
    scale = short_px / shorter
    if long_px is not None and round(scale * longer) > long_px:
        scale = long_px / longer
    w, h = max(round(width * scale), 1), max(round(height * scale), 1)
    return ScaledSize(w, h, w / width, h / height)


def network_image(
    image: NDArray[np.uint8], spec: InputSpec, resized: ScaledSize, *, mirror: bool = False
) -> NDArray[np.float32]:
    """Resize an image, or its mirror image, to the network's input.

    Mirrored before it is resized, as the authors do; boxes of it are
    :func:`~stages.boxes.geometry.mirrored_boxes` in the original's pixels.

    Args:
        image: uint8 [H, W, 3] RGB.
        resized: Of an image of this size.

    Returns:
        float32 [1, 3, h, w] in channels-last memory.
    """
    pixels = np.ascontiguousarray(image[:, ::-1]) if mirror else image
    return scaled_image(pixels, spec, (resized.width, resized.height))
