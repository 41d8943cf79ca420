"""Painting: a layer is a coverage mask and a colour, somewhere on or partly off the canvas.

A canvas is float32 [H, W, 3] RGB in [0, 1]. A pixel (row r, column c) covers [c, c + 1] x [r, r + 1].
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Canvas = NDArray[np.float32]
SOLID = 0.5  # a pixel belongs to a shape where the shape covers at least this much of it


@dataclass(frozen=True)
class Layer:
    """``coverage`` float32 [h, w] in [0, 1]; ``colour`` float32 [3] or [h, w, 3]; (x, y): where its top left is."""

    coverage: NDArray[np.float32]
    colour: NDArray[np.float32]
    x: int = 0
    y: int = 0

    def moved(self, x: int, y: int) -> "Layer":
        """The same layer with its top left pixel at (x, y)."""
        return replace(self, x=x, y=y)


def overlap(shape: tuple[int, ...], x: int, y: int, canvas: tuple[int, ...]) -> tuple[tuple[slice, slice], ...]:
    """(slices of the canvas, slices of an array of ``shape`` put at x, y) where the two meet; maybe empty slices."""
    top, bottom = max(y, 0), max(min(y + shape[0], canvas[0]), y, 0)
    left, right = max(x, 0), max(min(x + shape[1], canvas[1]), x, 0)
    on_canvas = (slice(top, bottom), slice(left, right))
    return on_canvas, (slice(top - y, bottom - y), slice(left - x, right - x))


def paint(canvas: Canvas, layer: Layer) -> None:
    """Blend a layer into the canvas, in place; what lies off the canvas is lost."""
    there, here = overlap(layer.coverage.shape, layer.x, layer.y, canvas.shape)
    alpha = layer.coverage[here][..., None]
    colour = layer.colour if layer.colour.ndim == 1 else layer.colour[here]
    canvas[there] += alpha * (colour - canvas[there])


def hide(visible: NDArray[np.bool_], layer: Layer) -> None:
    """Clear, in place, the pixels of a full-canvas mask that a layer painted later hides."""
    there, here = overlap(layer.coverage.shape, layer.x, layer.y, visible.shape)
    visible[there] &= layer.coverage[here] < SOLID


def extent(mask: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """x1, y1, x2, y2 (exclusive) of the true pixels, None if there are none."""
    cols, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(cols):
        return None
    return int(cols[0]), int(rows[0]), int(cols[-1]) + 1, int(rows[-1]) + 1


def edge(distance: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    """Signed distance (positive inside) times px per unit -> coverage, one pixel of soft edge."""
    cover: NDArray[np.float32] = np.clip(0.5 + distance * np.float32(scale), 0, 1).astype(np.float32)
    return cover


@dataclass(frozen=True)
class Frame:
    """A window of pixels with local coordinates ``u``, ``v`` [h, w] of each pixel centre; ``scale`` px per unit."""

    u: NDArray[np.float64]
    v: NDArray[np.float64]
    scale: float


def frame(rng: np.random.Generator, matrix: NDArray[np.float64], half: tuple[float, float]) -> Frame:
    """The window that shows the local rectangle [-half, half] under ``matrix`` (local units -> px, [2, 2]).

    The origin falls at a random place inside its pixel, so that edges are not all aligned with the grid.
    """
    reach = np.abs(matrix) @ np.asarray(half)
    w, h = (int(np.ceil(2 * r)) + 2 for r in reach)
    cx, cy = w / 2 + rng.uniform(-0.5, 0.5), h / 2 + rng.uniform(-0.5, 0.5)
    x, y = np.meshgrid(np.arange(w) + 0.5 - cx, np.arange(h) + 0.5 - cy)
    inverse = np.linalg.inv(matrix)
    u, v = inverse[0, 0] * x + inverse[0, 1] * y, inverse[1, 0] * x + inverse[1, 1] * y
    return Frame(u, v, float(np.sqrt(abs(np.linalg.det(matrix)))))


def affine(scale: float, degrees: float, shear: float, stretch: float) -> NDArray[np.float64]:
    """[2, 2] local units -> px: stretch x by sqrt(stretch) and y by its inverse, shear x by y, rotate, scale."""
    r = np.deg2rad(degrees)
    rotation = np.array([[np.cos(r), -np.sin(r)], [np.sin(r), np.cos(r)]])
    matrix: NDArray[np.float64] = (
        scale * rotation @ np.array([[1, shear], [0, 1]]) @ np.diag([np.sqrt(stretch), 1 / np.sqrt(stretch)])
    )
    return matrix
