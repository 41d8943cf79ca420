"""A layer's values in every window of an image, with the windows' places: what ``rcnn extract`` writes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.networks.network import Network

from .dense_pass import WindowPass
from .maps import window_boxes
from .scales import scaled_px

# Memory a pixel of the scaled image: VGG-16's first two maps, of 64 channels in float32 each, and its input.
_MAP_BYTES = 600
_COPIES = 3  # of a window's values at a time: in batches, together, and as they are written


@dataclass(frozen=True)
class DenseFeatures:
    """A layer's values in an image's windows, row by row.

    Attributes:
        features: float32 [h, w, d].
        boxes: float32 [h, w, 4], px of the image, not of the scaled one; none reaches past its edges.
        scaled_px: width and height that the image was brought to.
    """

    features: NDArray[np.float32]
    boxes: NDArray[np.float32]
    scaled_px: tuple[int, int]


class DenseExtractor:
    """Computes a layer in the windows of images, at the fine stride or the pooling's own (OverFeat section 3.3).

    Safe to call from several threads at once.

    Args:
        network: Any with windows.
        layer: ``fc6``, ``fc7``, ``fc8``, or ``pool5``: the window itself, as fc6 takes it, flattened (c, y, x).
        before_relu: The layer's values as its ReLU takes them, which is what OverFeat's authors' program gives by -f.
        coarse: At the last pooling's own stride, in place of every cell of the map.
        scale_px: The shorter side that images are brought to; None: their own.
        dtype: Of the arithmetic.
        device: Where it is computed.

    Raises ``StageError`` as :class:`~stages.dense.dense_pass.WindowPass`.

    Attributes:
        windows: the network's.
        length: of a window's values, d.
    """

    def __init__(
        self,
        network: Network,
        layer: str,
        *,
        before_relu: bool = False,
        coarse: bool = False,
        scale_px: int | None = None,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> None:
        self._pass = WindowPass(network, layer, before_relu=before_relu, dtype=dtype, device=device)
        self.windows, self.length = self._pass.windows, self._pass.length
        self._scale_px, self._step = scale_px, self.windows.pooling.stride if coarse else 1

    def scaled(self, width: int, height: int) -> tuple[int, int]:
        """Find the size (width, height) that an image of this size is brought to.

        Both sides go to the nearest lengths with whole offsets (:func:`~stages.dense.scales.scaled_px`; the authors'
        program resizes nothing). Without a scale these are near its own, but an image whose shorter side is below a
        window's is enlarged to that, its aspect ratio kept. ``StageError`` where it would have too many pixels.
        """
        own = max(min(width, height), self.windows.side_px)
        return scaled_px(width, height, own if self._scale_px is None else self._scale_px, self.windows)

    def bytes_needed(self, width: int, height: int) -> int:
        """Memory that an image of this size takes while it is worked on, beside the network; rounded up."""
        scaled = self.scaled(width, height)
        rows, columns = self._counts(scaled)
        return scaled[0] * scaled[1] * _MAP_BYTES + rows * columns * self.length * 4 * _COPIES // self._step**2

    def __call__(self, image: NDArray[np.uint8]) -> DenseFeatures:
        """Compute the layer in the windows of uint8 [H, W, 3] RGB; ``StageError`` where a value is not a number."""
        height, width = image.shape[:2]
        size, step = self.scaled(width, height), self._step
        features = self._pass(image, size, step=step)[0]
        rows, columns = self._counts(size)
        boxes = window_boxes(rows, columns, self.windows, size, width, height).reshape(rows, columns, 4)
        return DenseFeatures(features, np.ascontiguousarray(boxes[::step, ::step]), size)

    def _counts(self, scaled: tuple[int, int]) -> tuple[int, int]:
        """Count the rows and columns of windows of a scaled image, at the fine stride."""
        width, height = ((side - self.windows.side_px) // self.windows.stride_px + 1 for side in scaled)
        return height, width
