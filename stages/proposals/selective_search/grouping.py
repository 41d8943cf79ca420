"""Hierarchical grouping of regions (Uijlings et al. 2013, section 3.1 and equations 2 to 6).

The most similar pair of neighbours is merged until one region is left. Similarity is the plain mean of the chosen
terms, each in [0, 1]: intersection of L1-normalised colour histograms, of texture histograms, size
``1 - (a + b) / image`` and fill ``1 - (box - a - b) / image``. Equal similarities (after rounding to 2**-30): the pair
that became neighbours first.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .descriptors import N_COLOR, N_TEXTURE
from .segmentation import Segmentation

Strategy = Literal["color_texture_size_fill", "texture_size_fill", "fill", "size"]

# (colour, texture, size, fill): the authors' four SSSim* similarity functions
_TERMS: dict[str, tuple[bool, bool, bool, bool]] = {
    "color_texture_size_fill": (True, True, True, True),
    "texture_size_fill": (False, True, True, True),
    "fill": (False, False, False, True),
    "size": (False, False, True, False),
}


@dataclass(frozen=True)
class Hierarchy:
    """A binary merge tree over n regions: nodes 0..n-1 are the regions, n..2n-2 the merges in order.

    Attributes:
        parents: int32 [2n - 1], the node each node was merged into, -1 for the root.
        boxes: int32 [2n - 1, 4], right and bottom exclusive.
    """

    parents: NDArray[np.int32]
    boxes: NDArray[np.int32]


def group(
    regions: Segmentation,
    neighbours: NDArray[np.int32],
    color: NDArray[np.float32],
    texture: NDArray[np.float32],
    strategy: Strategy,
) -> Hierarchy:
    """Merge tree of ``regions`` (n of them) under one strategy.

    Args:
        neighbours: int32 [m, 2], pairs of adjacent regions, each once.
        color, texture: float32 [n, 75] and [n, 240], counts as :func:`descriptors.histograms` gives them; not changed.
    """
    terms = np.array(_TERMS[strategy], np.bool_)
    return Hierarchy(*_group(neighbours, regions.sizes, regions.boxes, color, texture, terms, regions.labels.size))


@njit("float32(float32[::1], float32, float32[::1], float32)", cache=True, nogil=True, fastmath=True)
def _intersection(a, scale_a, b, scale_b):  # type: ignore[no-untyped-def]
    """Sum of the smaller entries; fastmath lets the sum be vectorised."""
    total = np.float32(0)
    for i in range(len(a)):
        total += min(a[i] * scale_a, b[i] * scale_b)
    return total


@njit(
    "float64(int64, int64, int32[::1], int64[::1], int32[:,::1], float32[:,::1], float32[:,::1], boolean[::1], int64)",
    cache=True,
    nogil=True,
)
def _similarity(a, b, rows, sizes, boxes, color, texture, terms, image_px):  # type: ignore[no-untyped-def]
    """Mean of the chosen terms for nodes a and b, in [0, 1]."""
    total = 0.0
    if terms[0]:
        total += _intersection(
            color[rows[a]], np.float32(1 / (3 * sizes[a])), color[rows[b]], np.float32(1 / (3 * sizes[b]))
        )
    if terms[1]:
        total += _intersection(
            texture[rows[a]], np.float32(1 / (24 * sizes[a])), texture[rows[b]], np.float32(1 / (24 * sizes[b]))
        )
    both = sizes[a] + sizes[b]
    if terms[2]:
        total += 1 - both / image_px
    if terms[3]:
        width = max(boxes[a, 2], boxes[b, 2]) - min(boxes[a, 0], boxes[b, 0])
        height = max(boxes[a, 3], boxes[b, 3]) - min(boxes[a, 1], boxes[b, 1])
        total += 1 - (np.int64(width) * np.int64(height) - both) / image_px
    return total / terms.sum()


@njit("uint64(float64, int64)", cache=True, nogil=True)
def _heap_key(similarity, pair):  # type: ignore[no-untyped-def]
    """One sortable word: the similarity above, the pair's number (earlier is larger) below."""
    return (np.uint64(np.int64(similarity * 1073741824.0)) << np.uint64(32)) | np.uint64(0xFFFFFFFF - pair)


@njit("void(uint64[::1], int64, uint64)", cache=True, nogil=True)
def _push(heap, n, key):  # type: ignore[no-untyped-def]
    """Add to a max-heap of n entries with room for one more."""
    while n > 0 and heap[(n - 1) >> 1] < key:
        heap[n] = heap[(n - 1) >> 1]
        n = (n - 1) >> 1
    heap[n] = key


@njit("uint64(uint64[::1], int64)", cache=True, nogil=True)
def _pop(heap, n):  # type: ignore[no-untyped-def]
    """Take the largest of n > 0 entries; n - 1 are left."""
    top = heap[0]
    n -= 1
    key = heap[n]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= n:
            break
        if child + 1 < n and heap[child + 1] > heap[child]:
            child += 1
        if heap[child] <= key:
            break
        heap[i] = heap[child]
        i = child
    heap[i] = key
    return top


@njit("int32(int32[::1], int32)", cache=True, nogil=True)
def _living(merged, i):  # type: ignore[no-untyped-def]
    """The node that node i is part of now."""
    while merged[i] != i:
        merged[i] = merged[merged[i]]
        i = merged[i]
    return i


@njit("Tuple((int32[::1], int32[::1], int32[::1]))(int32[:,::1], int64)", cache=True, nogil=True)
def _lists(neighbours, n):  # type: ignore[no-untyped-def]
    """Linked neighbour lists: half-edge h = 2 * pair + side; its owner's list runs head -> following."""
    m = len(neighbours)
    head = np.full(2 * n - 1, -1, np.int32)
    following = np.empty(2 * m, np.int32)
    target = np.empty(2 * m, np.int32)
    for i in range(m - 1, -1, -1):
        for side in range(2):
            h = 2 * i + side
            owner = neighbours[i, side]
            target[h] = neighbours[i, 1 - side]
            following[h] = head[owner]
            head[owner] = h
    return head, following, target


@njit(
    "void(int64, int64, int64, int32[::1], int64[::1], int32[:,::1], float32[:,::1], float32[:,::1], boolean[::1])",
    cache=True,
    nogil=True,
)
def _merge(a, b, c, rows, sizes, boxes, color, texture, terms):  # type: ignore[no-untyped-def]
    """Make node c of a and b; c's histograms take a's rows."""
    sizes[c] = sizes[a] + sizes[b]
    boxes[c, 0] = min(boxes[a, 0], boxes[b, 0])
    boxes[c, 1] = min(boxes[a, 1], boxes[b, 1])
    boxes[c, 2] = max(boxes[a, 2], boxes[b, 2])
    boxes[c, 3] = max(boxes[a, 3], boxes[b, 3])
    rows[c] = rows[a]
    if terms[0]:
        for j in range(N_COLOR):
            color[rows[a], j] += color[rows[b], j]
    if terms[1]:
        for j in range(N_TEXTURE):
            texture[rows[a], j] += texture[rows[b], j]


@njit(
    "int64(int64, int64, int64, int32[::1], int32[::1], int32[::1], int32[::1], int32[::1], int32[::1])",
    cache=True,
    nogil=True,
)
def _join_lists(a, b, c, head, following, target, merged, stamp, around):  # type: ignore[no-untyped-def]
    """Give c the neighbours of a and b, each once, and write them to ``around``; returns how many."""
    n = 0
    last = -1
    for part in (a, b):
        h = head[part]
        while h >= 0:
            after = following[h]
            other = _living(merged, target[h])
            if other != c and stamp[other] != c:
                stamp[other] = c
                target[h] = other
                if last < 0:
                    head[c] = h
                else:
                    following[last] = h
                last = h
                around[n] = other
                n += 1
            h = after
    if last >= 0:
        following[last] = -1
    return n


@njit(
    "Tuple((uint64[::1], int32[:,::1]))(uint64[::1], int32[:,::1], int64)",
    cache=True,
    nogil=True,
)
def _with_room(heap, pairs, n):  # type: ignore[no-untyped-def]
    """The same heap and pair list, moved to larger memory if n entries do not fit."""
    if n <= len(pairs):
        return heap, pairs
    larger_heap = np.empty(2 * n, np.uint64)
    larger_heap[: len(heap)] = heap
    larger_pairs = np.empty((2 * n, 2), np.int32)
    larger_pairs[: len(pairs)] = pairs
    return larger_heap, larger_pairs


@njit(
    "Tuple((int32[::1], int32[:,::1]))"
    "(int32[:,::1], int32[::1], int32[:,::1], float32[:,::1], float32[:,::1], boolean[::1], int64)",
    cache=True,
    nogil=True,
)
def _group(neighbours, leaf_sizes, leaf_boxes, leaf_color, leaf_texture, terms, image_px):  # type: ignore[no-untyped-def]
    n = len(leaf_sizes)
    n_nodes = 2 * n - 1
    color = leaf_color.copy() if terms[0] else leaf_color
    texture = leaf_texture.copy() if terms[1] else leaf_texture
    sizes = np.empty(n_nodes, np.int64)
    sizes[:n] = leaf_sizes
    boxes = np.empty((n_nodes, 4), np.int32)
    boxes[:n] = leaf_boxes
    rows = np.arange(n_nodes).astype(np.int32)  # each node's histogram row
    parents = np.full(n_nodes, -1, np.int32)
    merged = np.arange(n_nodes).astype(np.int32)  # union-find over nodes
    stamp = np.full(n_nodes, -1, np.int32)  # last merge a node was listed as a neighbour of
    around = np.empty(n_nodes, np.int32)
    head, following, target = _lists(neighbours, n)
    n_pairs = n_heap = len(neighbours)
    heap, pairs = _with_room(np.empty(0, np.uint64), neighbours[:0].copy(), max(2 * n_pairs, 1))
    pairs[:n_pairs] = neighbours
    for i in range(n_pairs):
        s = _similarity(pairs[i, 0], pairs[i, 1], rows, sizes, boxes, color, texture, terms, image_px)
        _push(heap, i, _heap_key(s, i))
    for c in range(n, n_nodes):
        while True:  # pairs with a part that is merged already are dropped as they surface
            pair = np.int64(0xFFFFFFFF) - np.int64(_pop(heap, n_heap) & np.uint64(0xFFFFFFFF))
            n_heap -= 1
            a, b = pairs[pair, 0], pairs[pair, 1]
            if parents[a] < 0 and parents[b] < 0:
                break
        parents[a] = parents[b] = c
        merged[a] = merged[b] = c
        _merge(a, b, c, rows, sizes, boxes, color, texture, terms)
        n_around = _join_lists(a, b, c, head, following, target, merged, stamp, around)
        heap, pairs = _with_room(heap, pairs, n_pairs + n_around)
        for i in range(n_around):
            pairs[n_pairs, 0] = around[i]
            pairs[n_pairs, 1] = c
            s = _similarity(around[i], c, rows, sizes, boxes, color, texture, terms, image_px)
            _push(heap, n_heap, _heap_key(s, n_pairs))
            n_pairs += 1
            n_heap += 1
    return parents, boxes
