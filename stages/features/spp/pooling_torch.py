"""Spatial pyramids of many windows as tensor operations, for CUDA: what :mod:`.pooling` gives, all by gathers.

Maxima have the same bits; averages agree within rounding, a rectangle's sum being made of four values of a summed-area
table in float64. The largest value of any rectangle is the largest of four overlapping rectangles whose sides are
powers of two, and the maxima of all of those are made once for a map (a sparse table). So a bin costs four reads,
whatever its size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from stages.networks.settings import Pooling


def pool_windows_torch(fmap: Tensor, windows: Tensor, levels: Sequence[int], pooling: Pooling = "max") -> Tensor:
    """Map [h, w, c] and windows int64 [n, 4] (``y1, x1, y2, x2``, half-open, in the map), n > 0 -> [n, c * bins].

    As :func:`~stages.features.spp.pooling.pool_windows` has it, on the tensors' device and in the map's type.
    """
    bins = _bins(windows, levels)
    pooled = _maxima(fmap, *bins) if pooling == "max" else _averages(fmap, *bins)  # [n, bins, c]
    parts = pooled.split([n * n for n in levels], dim=1)
    return torch.cat([part.transpose(1, 2).flatten(1) for part in parts], 1)


def _maxima(fmap: Tensor, top: Tensor, left: Tensor, bottom: Tensor, right: Tensor) -> Tensor:
    """Find the maxima of rectangles, whose four sides are int64 [n, bins] each: [n, bins, c]."""
    h, w, c = fmap.shape
    tall, wide = _exponent(bottom - top), _exponent(right - left)
    most_tall, most_wide = int(tall.max()), int(wide.max())
    table = _table(fmap.clamp(min=0), most_tall, most_wide).reshape(-1, c)
    first = (tall * (most_wide + 1) + wide) * h  # of the rows of the table's map for these sides
    low, far = bottom - (1 << tall), right - (1 << wide)
    pooled = table[(first + top) * w + left]
    for y, x in ((top, far), (low, left), (low, far)):
        pooled = torch.maximum(pooled, table[(first + y) * w + x])
    return pooled


def _averages(fmap: Tensor, top: Tensor, left: Tensor, bottom: Tensor, right: Tensor) -> Tensor:
    h, w, c = fmap.shape
    table = fmap.new_zeros((h + 1, w + 1, c), dtype=torch.float64)
    table[1:, 1:] = fmap.double().cumsum(0).cumsum(1)
    flat = table.reshape(-1, c)
    sums = flat[bottom * (w + 1) + right] - flat[top * (w + 1) + right]
    sums = sums - flat[bottom * (w + 1) + left] + flat[top * (w + 1) + left]
    return (sums / ((bottom - top) * (right - left))[..., None]).to(fmap.dtype)


def _bins(windows: Tensor, levels: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Every bin's rectangle, ``y1, x1, y2, x2``, half-open: four of int64 [n, bins]."""
    every = [torch.arange(n, device=windows.device) for n in levels]
    i = torch.cat([rows.repeat_interleave(len(rows)) for rows in every])  # [bins]
    j = torch.cat([columns.repeat(len(columns)) for columns in every])
    n = torch.cat([torch.full_like(rows, len(rows)).repeat(len(rows)) for rows in every])
    y1, x1, y2, x2 = windows[:, :, None].unbind(1)  # [n, 1] each
    h, w = y2 - y1, x2 - x1
    return y1 + i * h // n, x1 + j * w // n, y1 - (-(i + 1) * h) // n, x1 - (-(j + 1) * w) // n


def _exponent(lengths: Tensor) -> Tensor:
    """The largest e with 2^e <= length, for lengths of at least 1."""
    powers = 1 << torch.arange(31, device=lengths.device)
    return torch.searchsorted(powers, lengths.contiguous(), right=True) - 1


def _table(fmap: Tensor, most_tall: int, most_wide: int) -> Tensor:
    """Maxima of the 2^a x 2^b rectangles that begin at each cell: [a, b, h, w, c], a and b from 0 to the most.

    Where such a rectangle would leave the map the value is of what is in it, and nobody asks for it.
    """
    columns = [fmap]
    for b in range(most_wide):
        columns.append(_doubled(columns[-1], 1 << b, dim=1))
    rows = [torch.stack(columns)]
    for a in range(most_tall):
        rows.append(_doubled(rows[-1], 1 << a, dim=1))
    return torch.stack(rows)


def _doubled(maxima: Tensor, step: int, dim: int) -> Tensor:
    """Maxima over twice the cells along ``dim``: of each and the one a ``step`` further on."""
    kept = maxima.shape[dim] - step
    both = torch.maximum(maxima.narrow(dim, 0, kept), maxima.narrow(dim, step, kept))
    return torch.cat([both, maxima.narrow(dim, kept, step)], dim)
