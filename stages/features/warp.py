"""Regions to network-ready crops: context padding, warp, mean subtraction (paper section 2.1 and appendix A).

Follows the authors' rcnn_im_crop.m rounding for rounding. Deliberate differences:
- ``square_no_context`` (appendix A, column C) is in the paper only; here it is the ``square`` crop in which everything
  outside the proposal and its p pixels of border counts as missing.
- ``padding: replicate``, which the paper names and leaves untried, is ours: the outermost pixels of what a crop shows
  are repeated to its edges.
- The mean is one value per channel, not a mean image; so a mirrored crop is the exact mirror image.
- ``context_px`` is in pixels at the network's own input side, whatever that is; the paper's 16 belongs to 227.
- Boxes may be fractional; without context they are rounded to whole pixels as with it.

For segmentation (section 5, "fg") a region's crop may show its mask alone: every pixel of the image outside, context
too, is at the mean before the crop is resized.
"""

from collections.abc import Callable
from typing import Any, Literal

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from cache.errors import StageError
from stages.networks.pixels import Pixels
from stages.networks.spec import InputSpec

CropMode = Literal["warp", "square", "square_no_context"]
Padding = Literal["mean", "replicate"]
Layout = Literal["nchw", "nhwc"]
# Draws the mask of a region, by its row, in a part of the image (x1, y1, x2, y2 px): bool [y2 - y1, x2 - x1].
DrawMask = Callable[[int, tuple[int, int, int, int]], NDArray[np.bool_]]


def round_half_away(value: NDArray[np.float64]) -> NDArray[np.int64]:
    """Matlab's rounding: halves go away from zero."""
    return (np.sign(value) * np.floor(np.abs(value) + 0.5)).astype(np.int64)


def crop_frames(
    boxes: NDArray[np.floating], side_px: int, *, mode: CropMode, context_px: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The source rectangles that fill the crop: (frame, visible), each int64 [n, 4], 0-based, half-open, unclipped.

    ``frame`` is what maps onto the whole crop; ``visible`` is the part of it that shows the image (all of it but
    for ``square_no_context``). Half a pixel right of and below the true centre, as the authors have it.
    """
    b = np.asarray(boxes, np.float64).reshape(-1, 4)
    half = (b[:, 2:] - b[:, :2]) / 2
    center = b[:, :2] + 1 + half  # 1-based
    scale = side_px / (side_px - 2 * context_px)
    if mode == "warp" and context_px == 0:
        # the authors crop the box as it is: no centre, no half pixel
        frame = round_half_away(np.concatenate([b[:, :2] + 1, b[:, 2:]], 1))
        visible = frame
    elif mode == "warp":
        frame = visible = round_half_away(np.concatenate([center - half * scale, center + half * scale], 1))
    else:
        reach = half.max(axis=1, keepdims=True)
        frame = round_half_away(np.concatenate([center - reach * scale, center + reach * scale], 1))
        visible = frame
        if mode == "square_no_context":
            shown = half + reach * (scale - 1)  # p pixels of border at the crop's own scale
            visible = round_half_away(np.concatenate([center - shown, center + shown], 1))
    return _half_open(frame), _half_open(visible)


def _half_open(inclusive: NDArray[np.int64]) -> NDArray[np.int64]:
    out = inclusive.copy()
    out[:, :2] -= 1  # 1-based inclusive to 0-based half-open
    return out


def placements(
    boxes: NDArray[np.floating], width: int, height: int, side_px: int, *, mode: CropMode, context_px: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each crop's pixels come from and go to: (source, target), each int64 [n, 4], 0-based, half-open.

    ``source`` lies in the image, ``target`` in the ``side_px`` square; the rest of the square is missing. Both
    are empty (x2 <= x1) where nothing of the region is in the image.
    """
    frame, visible = crop_frames(boxes, side_px, mode=mode, context_px=context_px)
    source = np.empty_like(frame)
    target = np.empty_like(frame)
    for axis, extent in ((0, width), (1, height)):
        low, high = frame[:, axis], frame[:, axis + 2]
        first = np.maximum(np.maximum(visible[:, axis], low), 0)
        last = np.minimum(np.minimum(visible[:, axis + 2], high), extent)
        scale = side_px / np.maximum(high - low, 1)
        count = round_half_away(np.maximum(last - first, 0) * scale)
        pad = round_half_away((first - low) * scale)
        source[:, axis], source[:, axis + 2] = first, last
        target[:, axis], target[:, axis + 2] = pad, pad + np.minimum(count, side_px - pad)
    return source, target


def warp_regions(
    image: NDArray[np.uint8],
    boxes: NDArray[np.floating],
    spec: InputSpec,
    *,
    mode: CropMode = "warp",
    context_px: int = 16,
    padding: Padding = "mean",
    mirror: NDArray[np.bool_] | None = None,
    layout: Layout = "nchw",
    out: NDArray[np.float32] | None = None,
    masks: DrawMask | None = None,
) -> NDArray[np.float32]:
    """Crops of an image's regions, ready for the network: float32 [n, 3, side, side].

    ``image`` is uint8 [H, W, 3] RGB; ``boxes`` [n, 4] in its pixels (0-based, half-open). The mean is subtracted, so
    missing pixels are 0; with ``padding`` "replicate" they are the nearest ones that are there, and 0 where none is of
    the region. Bilinear without antialiasing, sampled as Matlab's imresize does. ``mirror`` [n] bool flips
    single crops left to right (training). ``layout`` "nhwc" gives the same array in channels-last memory, which is
    faster; ``out`` is memory to write to, [n, 3, side, side] in either layout. ``masks`` draws which pixels of each
    region to show, all others being at the mean, missing ones too; None: all are shown. Several threads may call this
    at once.

    Raises ``StageError`` for a box without area or not finite, or a context that leaves no room for the box.
    """
    side = spec.side_px
    b = np.asarray(boxes, np.float32).reshape(-1, 4)
    check_context(side, context_px)
    check_boxes(b)
    height, width = image.shape[:2]
    source, target = placements(b, width, height, side, mode=mode, context_px=context_px)
    if out is None:
        out = np.empty((len(b), 3, side, side) if layout == "nchw" else (len(b), side, side, 3), np.float32)
        out = out if layout == "nchw" else out.transpose(0, 3, 1, 2)
    elif out.shape != (len(b), 3, side, side) or out.dtype != np.float32:
        raise ValueError(f"out must be float32 {(len(b), 3, side, side)}, not {out.dtype} {out.shape}")
    flips = np.zeros(len(b), np.bool_) if mirror is None else np.asarray(mirror, np.bool_)
    pixels = Pixels(image, source, spec)
    for i, (crop, origin, place, flip) in enumerate(
        zip(out.transpose(0, 2, 3, 1), source.tolist(), target.tolist(), flips, strict=True)
    ):
        _fill(crop, pixels, origin, place, None if masks is None else (i, masks))
        if padding == "replicate" and masks is None:
            _replicate(crop, place)
        if flip:
            crop[:] = crop[:, ::-1].copy()
    return out


def masks_from(masks: DrawMask, first: int) -> DrawMask:
    """Return what draws the masks of the regions from the ``first`` on."""
    return lambda row, window: masks(first + row, window)


def check_context(side_px: int, context_px: int) -> None:
    """``StageError`` unless the context leaves at least one pixel of the crop for the box itself."""
    if not 0 <= 2 * context_px < side_px:
        raise StageError(
            f"features.context_px: {context_px} px on each side leave nothing of a {side_px} px crop; "
            f"use at most {(side_px - 1) // 2}"
        )


def check_boxes(boxes: NDArray[np.float32]) -> None:
    """``StageError`` for a box [n, 4] that has no area or is not finite."""
    bad = ~(np.isfinite(boxes).all(axis=1) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    if bad.any():
        k = int(np.flatnonzero(bad)[0])
        raise StageError(
            f"region {k} has no area or is not finite: {boxes[k].tolist()} (x1, y1, x2, y2); drop such boxes"
        )


def _fill(
    crop: NDArray[np.float32],
    pixels: Pixels,
    source: list[int],
    target: list[int],
    shown: tuple[int, DrawMask] | None = None,
) -> None:
    """Resize ``source`` of the image into ``target`` of the crop [side, side, 3]; the rest becomes 0.

    ``shown``: which region it is, and what draws its mask, outside of which the image is at the mean.
    """
    x1, y1, x2, y2 = target
    if x2 <= x1 or y2 <= y1 or source[2] <= source[0] or source[3] <= source[1]:
        crop[:] = 0
        return
    crop[:y1] = 0
    crop[y2:] = 0
    crop[y1:y2, :x1] = 0
    crop[y1:y2, x2:] = 0
    inside = crop[y1:y2, x1:x2]
    size = (x2 - x1, y2 - y1)
    part = pixels(*source)
    if shown is not None:
        row, draw = shown
        part = _kept(part, draw(row, (source[0], source[1], source[2], source[3])))
    # OpenCV's linear resize is imresize's sampling (half-pixel centres, edges repeated), and the fastest there is
    if inside.strides[1] == 12:  # interleaved: written in place
        cv2.resize(part, size, dst=inside, interpolation=cv2.INTER_LINEAR)
    else:
        inside[:] = cv2.resize(part, size, interpolation=cv2.INTER_LINEAR).reshape(inside.shape)


@njit(cache=True, nogil=True)
def _kept(pixels: Any, mask: Any) -> Any:
    """Copy float32 pixels [h, w, 3] where the mask, bool [h, w], is set; 0 elsewhere. One pass: numpy takes six."""
    out = np.zeros(pixels.shape, np.float32)
    for y in range(pixels.shape[0]):
        for x in range(pixels.shape[1]):
            if mask[y, x]:
                out[y, x, 0], out[y, x, 1], out[y, x, 2] = pixels[y, x, 0], pixels[y, x, 1], pixels[y, x, 2]
    return out


def _replicate(crop: NDArray[np.float32], target: list[int]) -> None:
    """Repeat the outermost pixels of ``target`` to the edges of the crop [side, side, 3]; nothing where it is empty."""
    x1, y1, x2, y2 = target
    if x2 <= x1 or y2 <= y1:
        return
    crop[y1:y2, :x1] = crop[y1:y2, x1 : x1 + 1]
    crop[y1:y2, x2:] = crop[y1:y2, x2 - 1 : x2]
    crop[:y1] = crop[y1]
    crop[y2:] = crop[y2 - 1]
