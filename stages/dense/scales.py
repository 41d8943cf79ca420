"""Which sizes an image is brought to before the dense pass (OverFeat section 3.3 and Table 5)."""

from collections.abc import Sequence

from cache.errors import StageError

from .windows import DenseWindows

MOST_PX = 2**22  # of one scaled image: VGG-16's first maps, of both flips, then take 2 GiB each
_STEPS = (0, 1, 2, 4, 5, 6)  # of Table 5's shorter sides, from the smallest


def paper_scales(windows: DenseWindows) -> tuple[int, ...]:
    """Return Table 5's six scales for a network: of the accurate one 245, 281, 317, 389, 425 and 461 px.

    The smallest has one window at each offset of the pooling, the others 1, 2, 4, 5 and 6 more along a side.
    """
    least, apart = _even(windows)
    return tuple(least + apart * step for step in _STEPS)


def scaled_px(width: int, height: int, scale_px: int, windows: DenseWindows) -> tuple[int, int]:
    """Find the size (width, height) that an image of this size is brought to at a scale, its shorter side's.

    Each side goes to the nearest length at which every offset of the pooling has equally many windows, at least one; of
    two equally near to the larger. For the accurate network these are the 245 + 36 m px of Table 5. So the aspect
    ratio is kept as nearly as these lengths allow. Raises ``StageError`` where the image would have more than
    ``MOST_PX`` pixels.
    """
    least, apart = _even(windows)
    shorter = min(width, height)

    def fitting(side: int) -> int:
        steps = (2 * (side * scale_px - least * shorter) + apart * shorter) // (2 * apart * shorter)
        return least + apart * max(steps, 0)

    scaled = fitting(width), fitting(height)
    if scaled[0] * scaled[1] > MOST_PX:
        raise StageError(
            f"{width} x {height} px would be {scaled[0]} x {scaled[1]} at scale {scale_px}, more than {MOST_PX:,} "
            "pixels; leave it out or choose smaller scales"
        )
    return scaled


def check_scales(scales_px: Sequence[int], windows: DenseWindows, parameter: str) -> None:
    """Raise ``StageError``, naming the parameter, for a scale at which an image's shorter side has no window."""
    if below := [scale for scale in scales_px if scale < windows.side_px]:
        raise StageError(
            f"{parameter}: {', '.join(map(str, below))} px is less than a window's {windows.side_px}; leave it out"
        )


def _even(windows: DenseWindows) -> tuple[int, int]:
    """Return the shortest side at which each offset has a window, and how far apart such sides are; px."""
    offsets = windows.pooling.stride
    return windows.side_px + windows.stride_px * (offsets - 1), windows.stride_px * offsets
