"""The inner loop of :mod:`stages.common.warp`: bilinear crops from uint8 pixels straight to network-ready float32."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray


def fill_crops(
    image: NDArray[np.uint8],
    source: NDArray[np.int64],
    target: NDArray[np.int64],
    order: NDArray[np.int64],
    gain: NDArray[np.float32],
    offset: NDArray[np.float32],
    mirror: NDArray[np.bool_],
    out: NDArray[np.float32],
) -> None:
    """Fill ``out`` [n, 3, side, side]: crop i is ``source[i]`` of the image resized to ``target[i]``, else 0."""
    _fill(image, source, target, order, gain, offset, mirror, out)


@numba.njit(nogil=True, cache=True)
def _fill(image: Any, source: Any, target: Any, order: Any, gain: Any, offset: Any, mirror: Any, out: Any) -> None:
    n, _, side, _ = out.shape
    for i in range(n):
        out[i] = 0
        x1, y1, x2, y2 = source[i]
        tx1, ty1, tx2, ty2 = target[i]
        if tx2 <= tx1 or ty2 <= ty1 or x2 <= x1 or y2 <= y1:
            continue
        sx = (x2 - x1) / (tx2 - tx1)
        sy = (y2 - y1) / (ty2 - ty1)
        for ty in range(ty1, ty2):
            v = min(max((ty - ty1 + 0.5) * sy - 0.5, 0.0), y2 - y1 - 1.0)
            ya = int(v)
            wy = np.float32(v - ya)
            yb = min(ya + 1, y2 - y1 - 1)
            for tx in range(tx1, tx2):
                u = min(max((tx - tx1 + 0.5) * sx - 0.5, 0.0), x2 - x1 - 1.0)
                xa = int(u)
                wx = np.float32(u - xa)
                xb = min(xa + 1, x2 - x1 - 1)
                to = side - 1 - tx if mirror[i] else tx
                for c in range(3):
                    k = order[c]
                    top = image[y1 + ya, x1 + xa, k] * (1 - wx) + image[y1 + ya, x1 + xb, k] * wx
                    bottom = image[y1 + yb, x1 + xa, k] * (1 - wx) + image[y1 + yb, x1 + xb, k] * wx
                    out[i, c, ty, to] = (top * (1 - wy) + bottom * wy) * gain[c] + offset[c]
