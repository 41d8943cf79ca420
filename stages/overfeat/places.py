"""The windows of an image at every scale: how many there are, where they lie, and which one surrounds which."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stages.boxes.geometry import Boxes
from stages.dense.maps import window_boxes
from stages.dense.scales import scaled_px
from stages.dense.windows import DenseWindows

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class ScaleGrid:
    """An image's windows at one scale: ``rows`` times ``columns``, of the image brought to ``scaled`` (width, height).

    ``scale_px`` is the shorter side that was asked for (``maps.scales_px``).
    """

    scale_px: int
    scaled: tuple[int, int]
    rows: int
    columns: int

    def __len__(self) -> int:
        return self.rows * self.columns


@dataclass(frozen=True)
class ImageGrid:
    """All windows of an image, numbered scale by scale, from the smallest on, and in each row by row."""

    width: int
    height: int
    windows: DenseWindows
    scales: tuple[ScaleGrid, ...]

    def __len__(self) -> int:
        return sum(map(len, self.scales))

    @cached_property
    def boxes(self) -> Boxes:
        """The windows' places: float32 [n, 4], px of the image."""
        size = self.width, self.height
        parts = [window_boxes(one.rows, one.columns, self.windows, one.scaled, *size) for one in self.scales]
        return np.concatenate(parts)

    def places(self, chosen: Indices) -> tuple[Indices, Indices, Indices]:
        """Find the scale (its index), the row and the column of each of some windows: three int64 [n]."""
        starts = np.cumsum([0, *map(len, self.scales)])
        scale = np.searchsorted(starts, chosen, side="right") - 1
        columns = np.array([one.columns for one in self.scales])[scale]
        row, column = np.divmod(chosen - starts[scale], columns)
        return scale, row, column

    def surrounding(self, scale: int) -> tuple[Indices, Indices]:
        """Find which window of the next smaller scale has the same centre, as nearly as there is one.

        The image is smaller there, so that its window shows more of it, all around. Of two equally near the first.

        Args:
            scale: index of a scale, not the first.

        Returns:
            Its row for each row of the scale int64 [rows], and its column for each column int64 [columns].
        """
        own, less = self.scales[scale], self.scales[scale - 1]

        def of_same_centre(count: int, length: int, count_below: int, length_below: int) -> Indices:
            stride, half = self.windows.stride_px, self.windows.side_px / 2
            centres = (stride * np.arange(count) + half) * length_below / length
            return np.ceil((centres - half) / stride - 0.5).clip(0, count_below - 1).astype(np.int64)

        return (
            of_same_centre(own.rows, own.scaled[1], less.rows, less.scaled[1]),
            of_same_centre(own.columns, own.scaled[0], less.columns, less.scaled[0]),
        )


def image_grid(width: int, height: int, scales_px: Sequence[int], windows: DenseWindows) -> ImageGrid:
    """Lay out the windows of an image of ``width`` x ``height`` px at scales in rising order.

    Raises ``StageError`` as :func:`~stages.dense.scales.scaled_px`.
    """

    def at(scale_px: int) -> ScaleGrid:
        scaled = scaled_px(width, height, scale_px, windows)
        columns, rows = ((side - windows.side_px) // windows.stride_px + 1 for side in scaled)
        return ScaleGrid(scale_px, scaled, rows, columns)

    return ImageGrid(width, height, windows, tuple(map(at, scales_px)))
