"""COCO's run lengths and polygons as masks, and masks as run lengths."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests.values import read_integer

Mask = NDArray[np.bool_]

_FINER = 5  # pycocotools walks a polygon's edges in fifths of a pixel
_FAR_PX = 1e6  # no polygon that is merely a little wrong leaves its image by so much


def encode_rle(mask: Mask) -> dict[str, Any]:
    """Encode a mask, bool [H, W], as COCO's compressed run lengths: ``{"size": [H, W], "counts": text}``.

    Runs go down the columns, of 0 first. In the text each run, from the fourth on less the one two before it, stands in
    groups of 5 bits, the lowest first, a sixth bit saying that another follows, and 48 added to make it a letter.
    """
    flat = np.asarray(mask, bool).reshape(mask.shape).T.reshape(-1)
    edges = np.flatnonzero(np.diff(flat, prepend=False))
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    letters = []
    for i, run in enumerate(runs):
        value = run - runs[i - 2] if i > 2 else run
        while True:
            group, value = value & 31, value >> 5
            more = value != (-1 if group & 16 else 0)
            letters.append(chr(48 + group + 32 * more))
            if not more:
                break
    return {"size": [int(mask.shape[0]), int(mask.shape[1])], "counts": "".join(letters)}


def draw_segmentation(segmentation: Any, shape: tuple[int, int]) -> Mask:
    """Draw COCO's ``segmentation``, RLE or polygons, in an image of ``shape`` -> bool [H, W]; ValueError as below."""
    if isinstance(segmentation, Mapping):
        return decode_rle(segmentation, shape)
    if not isinstance(segmentation, list | tuple) or not segmentation:
        raise ValueError(f"its segmentation {str(segmentation)[:40]} is neither RLE nor a list of polygons")
    return draw_polygons(segmentation, shape)


def check_segmentation(segmentation: Any, shape: tuple[int, int]) -> None:
    """Raise ValueError where :func:`draw_segmentation` would, but without drawing polygons."""
    if isinstance(segmentation, list | tuple) and segmentation:
        for polygon in segmentation:
            _corners(polygon)
    else:
        draw_segmentation(segmentation, shape)


def decode_rle(rle: Mapping[str, Any], shape: tuple[int, int]) -> Mask:
    """Decode COCO's run lengths, as text or as a list of numbers -> bool [H, W]; the inverse of :func:`encode_rle`.

    ``shape`` is the image's H, W. ValueError, saying what is wrong, where the run lengths do not fit it.
    """
    size = rle.get("size")
    read = [read_integer(side) for side in size] if isinstance(size, list | tuple) else []
    if len(read) != 2 or None in read:
        raise ValueError(f"its RLE's size is {size!r}, not [height, width]")
    if tuple(read) != shape:
        raise ValueError(f"its RLE is of a {read[1]} x {read[0]} image, but the image is {shape[1]} x {shape[0]}")
    counts = rle.get("counts")
    if isinstance(counts, bytes):
        counts = counts.decode("ascii", "replace")
    if isinstance(counts, str):
        runs: Sequence[int | None] = _runs(counts)
    elif isinstance(counts, list):
        runs = [read_integer(count) for count in counts]
    else:
        raise ValueError("its RLE has no counts")
    most = shape[0] * shape[1]
    lengths = np.array([-1 if run is None or not 0 <= run <= most else run for run in runs], np.int64)
    if (lengths < 0).any():
        raise ValueError("its RLE has a run that is no length")
    if lengths.sum() != most:
        raise ValueError(f"its RLE's runs cover {lengths.sum()} pixels, but the image has {most}")
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return np.ascontiguousarray(flat.reshape(shape[1], shape[0]).T)


def _runs(text: str) -> list[int]:
    """The runs that a compressed text holds; ValueError where it is none."""
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 30:
            raise ValueError(f"its RLE's counts hold {letter!r}, which is no part of a run")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    if shift:
        raise ValueError("its RLE's counts end within a run")
    return runs


def draw_polygons(polygons: Sequence[Any], shape: tuple[int, int]) -> Mask:
    """Draw polygons ``[x1, y1, x2, y2, ...]`` in px -> bool [H, W]: their union, as pycocotools draws it.

    ValueError, saying what is wrong, where one is no polygon.
    """
    mask = np.zeros(shape, bool)
    for polygon in polygons:
        mask |= _drawn(_corners(polygon), shape)
    return mask


def _corners(polygon: Any) -> NDArray[np.float64]:
    """float64 [n, 2] x, y of a polygon's corners."""
    try:
        numbers = np.array(polygon, np.float64)
    except (TypeError, ValueError, OverflowError):
        numbers = np.array(np.nan)
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise ValueError(f"its polygon {str(polygon)[:40]} is not a list of numbers")
    if len(numbers) < 6 or len(numbers) % 2:
        raise ValueError(f"its polygon has {len(numbers)} numbers, not an x and a y for each of 3 corners or more")
    if np.abs(numbers).max() > _FAR_PX:
        raise ValueError(f"its polygon {str(polygon)[:40]} lies far outside the image")
    return numbers.reshape(-1, 2)


def _drawn(corners: NDArray[np.float64], shape: tuple[int, int]) -> Mask:
    """One polygon -> bool [H, W].

    Its edges are walked in fifths of a pixel. Where they step over the middle of a column of pixels, the column changes
    from outside to inside, or back, at that height: so a pixel is inside where an odd number of such steps lie above
    it in its column, or in the columns before, each of which has an even number.
    """
    height, width = shape
    u, v = (np.concatenate(parts) for parts in zip(*_walked(corners), strict=True))
    step = np.flatnonzero(u[1:] != u[:-1])
    before, after = u[step], u[step + 1]
    column = (np.where(after < before, after, after - 1) + 0.5) / _FINER - 0.5
    row = np.ceil(np.clip((np.minimum(v[step], v[step + 1]) + 0.5) / _FINER - 0.5, 0, height))
    kept = (column == np.floor(column)) & (column >= 0) & (column <= width - 1)
    places = column[kept].astype(np.int64) * height + row[kept].astype(np.int64)
    inside = np.cumsum(np.bincount(places, minlength=height * width + 1))[: height * width] % 2 == 1
    return np.ascontiguousarray(inside.reshape(width, height).T)


def _walked(corners: NDArray[np.float64]) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The points x, y of each edge, in fifths of a pixel, one for each step along its longer side."""
    points = np.trunc(_FINER * corners + 0.5)
    for (xs, ys), (xe, ye) in pairwise([*points, points[0]]):
        flat = abs(xe - xs) >= abs(ye - ys)
        flip = xs > xe if flat else ys > ye
        (x0, y0), (x1, y1) = ((xe, ye), (xs, ys)) if flip else ((xs, ys), (xe, ye))
        t = np.arange((x1 - x0 if flat else y1 - y0) + 1)
        t = t[::-1] if flip else t
        slope = (y1 - y0) / (x1 - x0) if flat and x1 > x0 else (x1 - x0) / (y1 - y0) if y1 > y0 else 0.0
        yield (t + x0, np.trunc(y0 + slope * t + 0.5)) if flat else (np.trunc(x0 + slope * t + 0.5), t + y0)
