"""Graph-based segmentation (Felzenszwalb and Huttenlocher 2004), the first step of selective search.

Follows the selective search authors' mexFelzenSegmentIndex: smoothing with FH's truncated Gaussian, 8-connected pixel
graph, weights = Euclidean distance of the smoothed colours, then regions below ``min_px`` are joined along the
cheapest edges. Deliberate difference: weights are rounded to 1/128 of a grey level, which makes one counting sort
enough, and equal weights keep raster order, which makes the result the same everywhere.

The compiled functions release the GIL. A compiled function and those it calls share a file, because numba's on-disk
cache does not notice a change in a callee of another one.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

WEIGHT_STEPS = 128  # weight steps per grey level: 255 * sqrt(3) * 128 < 2**16
_BINS = 1 << 16


@dataclass(frozen=True)
class PixelGraph:
    """The image's edges, cheapest first; shared by all ``k``.

    Attributes:
        order: uint32 [m], edges as ``4 * pixel + direction`` (0 right, 1 down, 2 down-right, 3 up-right).
        starts: int64 [65537]; edges of weight ``w / 128`` are ``order[starts[w]:starts[w + 1]]``.
        shape: height, width.
    """

    order: NDArray[np.uint32]
    starts: NDArray[np.int64]
    shape: tuple[int, int]


@dataclass(frozen=True)
class Segmentation:
    """A partition of the image into n connected regions.

    Attributes:
        labels: int32 [H, W], 0..n-1, numbered by first appearance in raster order.
        sizes: int32 [n], pixels.
        boxes: int32 [n, 4], x1, y1, x2, y2, right and bottom exclusive.
    """

    labels: NDArray[np.int32]
    sizes: NDArray[np.int32]
    boxes: NDArray[np.int32]


def smooth(pixels: NDArray[np.uint8], sigma: float) -> NDArray[np.float32]:
    """uint8 [H, W, 3] -> float32 [3, H, W], blurred by FH's kernel: radius ceil(4 sigma), replicated border."""
    sigma = max(sigma, 0.01)
    radius = math.ceil(4 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    out = np.empty((3, *pixels.shape[:2]), np.float32)
    for i, channel in enumerate(cv2.split(pixels)):
        cv2.sepFilter2D(channel, cv2.CV_32F, kernel, kernel, dst=out[i], borderType=cv2.BORDER_REPLICATE)
    return out


def pixel_graph(pixels: NDArray[np.uint8], sigma: float) -> PixelGraph:
    """Edges of the smoothed uint8 [H, W, 3] image in ascending order of weight, ties in raster order."""
    order, starts = _sort_edges(_edge_weights(smooth(pixels, sigma)))
    return PixelGraph(order, starts, (pixels.shape[0], pixels.shape[1]))


def segment(graph: PixelGraph, k: float, min_px: int) -> Segmentation:
    """Felzenszwalb-Huttenlocher regions; larger ``k`` (grey levels) gives larger regions, none below ``min_px``.

    Only an image of fewer than ``min_px`` pixels can have a smaller region: itself.
    """
    height, width = graph.shape
    parent, size = _unite(graph.order, graph.starts, height, width, np.float32(k), min_px)
    return Segmentation(*_number(parent, size, height, width))


def adjacency(labels: NDArray[np.int32], n: int) -> NDArray[np.int32]:
    """int32 [H, W] labels -> int32 [m, 2], each pair a < b of 4-connected neighbouring regions once, sorted by a."""
    pairs: NDArray[np.int32] = _adjacency(labels, n)
    return pairs


@njit("uint16[:,:,::1](float32[:,:,::1])", cache=True, nogil=True)
def _edge_weights(smoothed):  # type: ignore[no-untyped-def]
    """[3, H, W] -> weights in 1/128 grey level, [4, H, W]; entries that leave the image are undefined."""
    _, height, width = smoothed.shape
    weights = np.empty((4, height, width), np.uint16)
    dy = (0, 1, 1, -1)
    dx = (1, 0, 1, 1)
    for d in range(4):
        for y in range(max(0, -dy[d]), height - max(0, dy[d])):
            here = smoothed[:, y]
            there = smoothed[:, y + dy[d]]
            for x in range(width - dx[d]):
                r = here[0, x] - there[0, x + dx[d]]
                g = here[1, x] - there[1, x + dx[d]]
                b = here[2, x] - there[2, x + dx[d]]
                distance = np.sqrt(r * r + g * g + b * b)
                weights[d, y, x] = np.uint16(np.int32(distance * np.float32(128) + np.float32(0.5)))
    return weights


@njit("Tuple((uint32[::1], int64[::1]))(uint16[:,:,::1])", cache=True, nogil=True)
def _sort_edges(weights):  # type: ignore[no-untyped-def]
    """Stable counting sort of the edges that stay inside the image."""
    _, height, width = weights.shape
    starts = np.zeros(_BINS + 1, np.int64)
    for d in range(4):
        for y in range(1 if d == 3 else 0, height - (1 if d in (1, 2) else 0)):
            for x in range(width - (0 if d == 1 else 1)):
                starts[np.int64(weights[d, y, x]) + 1] += 1
    for w in range(_BINS):
        starts[w + 1] += starts[w]
    order = np.empty(starts[_BINS], np.uint32)
    place = starts[:-1].copy()
    for y in range(height):
        for x in range(width):
            edge = np.uint32(4 * (y * width + x))
            for d in range(4):
                if (d != 1 and x == width - 1) or (d in (1, 2) and y == height - 1) or (d == 3 and y == 0):
                    continue
                weight = np.int64(weights[d, y, x])
                order[place[weight]] = edge + np.uint32(d)
                place[weight] += 1
    return order, starts


@njit("UniTuple(int32, 2)(int32[::1], int32, int32)", cache=True, nogil=True)
def _roots(parent, i, j):  # type: ignore[no-untyped-def]
    """Roots of i and j, which then point straight to them.

    Both are climbed in one loop, so that there is one exit to guess: mispredicted branches are what this algorithm's
    time goes into.
    """
    a = parent[i]
    b = parent[j]
    while True:
        above_a = parent[a]
        above_b = parent[b]
        if (above_a == a) & (above_b == b):
            break
        a = above_a
        b = above_b
    parent[i] = a
    parent[j] = b
    return a, b


@njit(
    "Tuple((int32[::1], int32[::1]))(uint32[::1], int64[::1], int64, int64, float32, int64)",
    cache=True,
    nogil=True,
)
def _unite(order, starts, height, width, k, min_px):  # type: ignore[no-untyped-def]
    """Union-find forest over the pixels (each one's parent) and, at its roots, the regions' sizes."""
    n_px = height * width
    parent = np.arange(n_px).astype(np.int32)
    size = np.ones(n_px, np.int32)
    limit = np.full(n_px, k, np.float32)  # Int(C) + k / |C|
    offset = np.array([1, width, width + 1, 1 - width], np.int32)
    # An edge inside a region stays inside for ever, so only edges refused here can matter to the min_px pass.
    refused = np.empty(len(order), np.uint32)
    n_refused = 0
    for w in range(_BINS):
        weight = np.float32(w) / np.float32(WEIGHT_STEPS)
        for i in range(starts[w], starts[w + 1]):
            pixel = np.int32(order[i] >> 2)
            a, b = _roots(parent, pixel, np.int32(pixel + offset[order[i] & 3]))
            if a == b:
                continue
            if weight <= min(limit[a], limit[b]):
                if size[a] < size[b]:
                    a, b = b, a
                parent[b] = a
                size[a] += size[b]
                limit[a] = weight + k / np.float32(size[a])
            else:
                refused[n_refused] = order[i]
                n_refused += 1
    for i in range(n_refused):
        pixel = np.int32(refused[i] >> 2)
        a, b = _roots(parent, pixel, np.int32(pixel + offset[refused[i] & 3]))
        if a != b and (size[a] < min_px or size[b] < min_px):
            if size[a] < size[b]:
                a, b = b, a
            parent[b] = a
            size[a] += size[b]
    return parent, size


@njit("Tuple((int32[:,::1], int32[::1], int32[:,::1]))(int32[::1], int32[::1], int64, int64)", cache=True, nogil=True)
def _number(parent, size, height, width):  # type: ignore[no-untyped-def]
    """Number the regions in raster order and box them."""
    name = np.full(height * width, -1, np.int32)
    labels = np.empty((height, width), np.int32)
    sizes = np.empty(height * width, np.int32)
    boxes = np.empty((height * width, 4), np.int32)
    n = 0
    for y in range(height):
        for x in range(width):
            root = parent[y * width + x]
            while parent[root] != root:
                root = parent[root]
            label = name[root]
            if label < 0:
                label = np.int32(n)
                name[root] = label
                sizes[n] = size[root]
                boxes[n, 0] = x
                boxes[n, 1] = y
                boxes[n, 2] = x + 1
                n += 1
            labels[y, x] = label
            boxes[label, 0] = min(boxes[label, 0], x)
            boxes[label, 2] = max(boxes[label, 2], x + 1)
            boxes[label, 3] = y + 1
    return labels, sizes[:n].copy(), boxes[:n].copy()


@njit("int32[:,::1](int32[:,::1], int64)", cache=True, nogil=True)
def _adjacency(labels, n):  # type: ignore[no-untyped-def]
    height, width = labels.shape
    pairs = np.empty((2 * height * width, 2), np.int32)
    count = np.zeros(n + 1, np.int64)
    m = 0
    for y in range(height):
        for x in range(width):
            a = labels[y, x]
            for d in range(2):
                if (d == 0 and x + 1 == width) or (d == 1 and y + 1 == height):
                    continue
                b = labels[y, x + 1] if d == 0 else labels[y + 1, x]
                if a != b:
                    pairs[m, 0] = min(a, b)
                    pairs[m, 1] = max(a, b)
                    count[min(a, b) + 1] += 1
                    m += 1
    for i in range(n):
        count[i + 1] += count[i]
    place = count[:-1].copy()
    other = np.empty(m, np.int32)
    for i in range(m):
        other[place[pairs[i, 0]]] = pairs[i, 1]
        place[pairs[i, 0]] += 1
    seen = np.full(n, -1, np.int32)
    out = np.empty((m, 2), np.int32)
    n_out = 0
    for a in range(n):
        for i in range(count[a], count[a + 1]):
            if seen[other[i]] != a:
                seen[other[i]] = a
                out[n_out, 0] = a
                out[n_out, 1] = other[i]
                n_out += 1
    return out[:n_out].copy()
