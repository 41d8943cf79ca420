"""What the detector says of an image's windows, as the stage ``slide`` stores it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.boxes.geometry import Boxes

EVERY_CLASS = -1  # in ``edge_classes``: one regressor for all


@dataclass(frozen=True)
class ScoredWindows:
    """An image's windows, scale by scale and row by row.

    Attributes:
        windows: float32 [n, 4], px of the image.
        scale: int64 [n], the shorter side in px at which each was seen.
        coarse: bool [n], those at the pooling's own stride.
        scores: float32 [n, C], the probability of each class.
        edges: float32 [n, K, 4], where the regressor puts the object, px of the image, not clipped; K is 1 for one
            regressor for all classes, else the number of classes asked of.
        edge_classes: int64 [n, K], which class's regressor gave each; ``EVERY_CLASS`` for the one of all.
    """

    windows: Boxes
    scale: NDArray[np.int64]
    coarse: NDArray[np.bool_]
    scores: NDArray[np.float32]
    edges: NDArray[np.float32]
    edge_classes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.windows)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by the names of :data:`ARRAYS`."""
        return {name: getattr(self, name) for name in ARRAYS}


ARRAYS = ("windows", "scale", "coarse", "scores", "edges", "edge_classes")
