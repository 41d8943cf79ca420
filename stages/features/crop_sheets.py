"""Pictures of crops as the network sees them: the paper's Figures 2 (training windows) and 7 (transformations)."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.boxes.geometry import Boxes
from stages.networks.spec import InputSpec

from .warp import CropMode, Padding, warp_regions

_GAP_PX, _WHITE = 4, 255
TRANSFORMATIONS: tuple[CropMode, ...] = ("square", "square_no_context", "warp")  # columns B, C, D


def as_seen(crops: NDArray[np.float32], spec: InputSpec) -> NDArray[np.uint8]:
    """Turn a network's input, float32 [n, 3, side, side], back into pixels, uint8 [n, side, side, 3] RGB."""
    channels_last = crops.transpose(0, 2, 3, 1).astype(np.float64)
    levels = (channels_last * np.asarray(spec.std) + np.asarray(spec.mean)) * (255 / spec.value_range)
    ordered = levels[..., ::-1] if spec.color_order == "bgr" else levels
    return np.asarray(np.clip(np.rint(ordered), 0, 255), np.uint8)


def transformations(
    image: NDArray[np.uint8], boxes: Boxes, spec: InputSpec, *, contexts_px: Sequence[int], padding: Padding
) -> NDArray[np.uint8]:
    """Draw Figure 7: of each region a row for each context, and columns A to D.

    A is the region at the image's own scale (smaller where it is larger than the network's input), B the tightest
    square with context, C without, D the warp.

    Args:
        image: uint8 [H, W, 3] RGB.
        boxes: float32 [n, 4] in its pixels.

    Returns:
        uint8 [h, w, 3] RGB. StageError for a box without area, and a context that leaves no room for the box.
    """
    rows = []
    for box in boxes:
        for context_px in contexts_px:
            crops = [
                as_seen(warp_regions(image, box[None], spec, mode=mode, context_px=context_px, padding=padding), spec)
                for mode in TRANSFORMATIONS
            ]
            rows.append([_own_scale(image, box, spec.side_px), *(crop[0] for crop in crops)])
    return _sheet(rows)


def windows(
    image: NDArray[np.uint8],
    boxes: Boxes,
    spec: InputSpec,
    *,
    mode: CropMode,
    context_px: int,
    padding: Padding,
    columns: int = 6,
) -> NDArray[np.uint8]:
    """Draw Figure 2: regions as crops, ``columns`` side by side; uint8 [h, w, 3] RGB. StageError as above."""
    crops = as_seen(warp_regions(image, boxes, spec, mode=mode, context_px=context_px, padding=padding), spec)
    return _sheet([list(crops[start : start + columns]) for start in range(0, len(crops), columns)])


def _own_scale(image: NDArray[np.uint8], box: NDArray[np.float32], side_px: int) -> NDArray[np.uint8]:
    """Put a region's pixels into the middle of a white square."""
    height, width = image.shape[:2]
    x1, y1 = (int(max(0, np.floor(value))) for value in box[:2])
    x2, y2 = (int(min(extent, np.ceil(value))) for value, extent in zip(box[2:], (width, height), strict=True))
    out = np.full((side_px, side_px, 3), _WHITE, np.uint8)
    if x2 <= x1 or y2 <= y1:
        return out
    region = np.ascontiguousarray(image[y1:y2, x1:x2])
    scale = min(1.0, side_px / max(region.shape[:2]))
    if scale < 1:
        size = (max(1, round((x2 - x1) * scale)), max(1, round((y2 - y1) * scale)))
        region = np.asarray(cv2.resize(region, size, interpolation=cv2.INTER_AREA), np.uint8)
    top, left = ((side_px - extent) // 2 for extent in region.shape[:2])
    out[top : top + region.shape[0], left : left + region.shape[1]] = region
    return out


def _sheet(rows: Sequence[Sequence[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Lay squares of one size out in rows, white between them."""
    side = rows[0][0].shape[0]
    step = side + _GAP_PX
    shape = (len(rows) * step + _GAP_PX, max(map(len, rows)) * step + _GAP_PX, 3)
    out = np.full(shape, _WHITE, np.uint8)
    for i, row in enumerate(rows):
        for j, square in enumerate(row):
            top, left = _GAP_PX + i * step, _GAP_PX + j * step
            out[top : top + side, left : left + side] = square
    return out
