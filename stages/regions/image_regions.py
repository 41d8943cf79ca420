"""An image's regions at its own size: the mask of each, and how many pixels each shares with given objects.

A region of selective search is a node of a merge tree, whose leaves are the segments of a label map. What it shares
with an object is the sum of what its leaves share, so that no mask is drawn: the objects' pixels are counted once in
each segment, and the counts summed up each tree. The segments of a node have successive places in a walk through its
tree: a mask is the pixels whose segment lies between two places.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stages.boxes.geometry import touched

_ROWS = 256  # regions at once, so that their superpixels as numbers take few bytes
Window = tuple[int, int, int, int]  # x1, y1, x2, y2 px, right and bottom exclusive


@dataclass(frozen=True)
class SharedPixels:
    """Pixels of n regions and m objects, but for void ones: what each pair shares, and how many each has.

    Attributes:
        inside: int64 [n, m], pixels of the region in the object.
        regions: int64 [n]; objects: int64 [m].
    """

    inside: NDArray[np.int64]
    regions: NDArray[np.int64]
    objects: NDArray[np.int64]

    def overlaps(self) -> NDArray[np.float32]:
        """Divide what each pair shares by what it covers together, float32 [n, m]; 0 where that is nothing."""
        together = self.regions[:, None] + self.objects[None] - self.inside
        found: NDArray[np.float32] = (self.inside / np.maximum(together, 1)).astype(np.float32)
        return found


class ImageRegions:
    """The regions of one proposals object (:mod:`.masks` has its arrays) in an image of ``height`` x ``width`` px.

    Label maps made at another working size are stretched to the image's, each pixel taking the segment in which its
    middle lies. Regions of a file are sets of superpixels, which are of the image's size. Where the method keeps no
    regions, a region is its box: every pixel that it touches.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]], height: int, width: int) -> None:
        self._arrays, self._shape = arrays, (height, width)
        self._placed: dict[int, NDArray[np.int32]] = {}  # of the label maps' size, which is less than a large image's

    def __len__(self) -> int:
        return len(self._arrays["boxes"])

    def mask(self, i: int, window: Window | None = None) -> NDArray[np.bool_]:
        """Draw region ``i``: bool [height, width] of the image, or of the ``window`` of it that is asked for."""
        x1, y1, x2, y2 = window or (0, 0, self._shape[1], self._shape[0])
        if "members" in self._arrays:
            chosen: NDArray[np.bool_] = self._arrays["members"][i][self._arrays["superpixels"][y1:y2, x1:x2]]
            return chosen
        if "regions" not in self._arrays:
            left, top, right, bottom = self._box(i)
            drawn = np.zeros((y2 - y1, x2 - x1), np.bool_)
            drawn[max(top - y1, 0) : max(bottom - y1, 0), max(left - x1, 0) : max(right - x1, 0)] = True
            return drawn
        hierarchy, node = (int(v) for v in self._arrays["regions"][i])
        first, after = self._spans[hierarchy][node]
        places = self._places(hierarchy)
        if places.shape == self._shape:
            inside: NDArray[np.bool_] = _between(places[y1:y2, x1:x2], first, after)
            return inside
        rows, columns = (some[a:b] for some, a, b in zip(self._middles(places.shape), (y1, x1), (y2, x2), strict=True))
        top, left = (int(some.min(initial=size)) for some, size in zip((rows, columns), places.shape, strict=True))
        inside = _between(places[top : rows.max(initial=0) + 1, left : columns.max(initial=0) + 1], first, after)
        inside = inside.take(columns - left, axis=1).take(rows - top, axis=0)
        return inside

    def shared(self, objects: NDArray[np.bool_], void: NDArray[np.bool_]) -> SharedPixels:
        """Count what all regions share with objects, bool [m, height, width]; ``void`` pixels count nowhere."""
        pixels = [np.flatnonzero(one & ~void) for one in objects]
        cared = np.flatnonzero(~void)
        kinds = {"regions": self._counts, "members": self._member_counts}
        count = next((count for kind, count in kinds.items() if kind in self._arrays), self._box_counts)
        counts = count([*pixels, cared])
        return SharedPixels(counts[:, :-1], counts[:, -1], np.array([len(one) for one in pixels], np.int64))

    def _counts(self, pixels: list[NDArray[np.int64]]) -> NDArray[np.int64]:
        """Pixels of each set in each region, int64 [n, sets], summed up the trees."""
        leaves: list[NDArray[np.int64]] = []
        for label_map in range(len(self._arrays["labels"])):
            labels = self._labels(label_map)
            counts = np.zeros((int(labels.max(initial=0)) + 1, len(pixels)), np.int64)
            for column, some in enumerate(pixels):
                _count(labels.reshape(-1), some, column, counts)
            leaves.append(counts)
        out = np.zeros((len(self), len(pixels)), np.int64)
        of_hierarchy, nodes = self._arrays["regions"][:, 0], self._arrays["regions"][:, 1]
        for hierarchy, (label_map, _, n) in enumerate(self._arrays["hierarchies"].tolist()):
            counts = np.zeros((2 * n - 1, len(pixels)), np.int64)
            counts[: min(n, len(leaves[label_map]))] = leaves[label_map][:n]
            _sum_up(self._parents(hierarchy), counts)
            own = of_hierarchy == hierarchy
            out[own] = counts[nodes[own]]
        return out

    def _member_counts(self, pixels: list[NDArray[np.int64]]) -> NDArray[np.int64]:
        """Pixels of each set in each set of superpixels, int64 [n, sets]."""
        members, flat = self._arrays["members"], self._arrays["superpixels"].reshape(-1)
        counts = np.stack([np.bincount(flat[some], minlength=members.shape[1]) for some in pixels], axis=1)
        out = np.empty((len(members), len(pixels)), np.int64)
        for start in range(0, len(members), _ROWS):  # sums of whole numbers below 2**53 are exact
            out[start : start + _ROWS] = members[start : start + _ROWS].astype(np.float64) @ counts
        return out

    def _box_counts(self, pixels: list[NDArray[np.int64]]) -> NDArray[np.int64]:
        """Pixels of each set in each box, int64 [n, sets], from sums over all pixels above and to the left."""
        height, width = self._shape
        boxes = np.array([self._box(i) for i in range(len(self))], np.int64).reshape(-1, 4)
        x1, y1, x2, y2 = boxes.T
        out = np.zeros((len(self), len(pixels)), np.int64)
        for column, some in enumerate(pixels):
            sums = np.zeros((height + 1, width + 1), np.int64)
            drawn = np.zeros(height * width, np.int64)
            drawn[some] = 1
            sums[1:, 1:] = drawn.reshape(height, width).cumsum(axis=0).cumsum(axis=1)
            out[:, column] = sums[y2, x2] - sums[y1, x2] - sums[y2, x1] + sums[y1, x1]
        return out

    def _box(self, i: int) -> Window:
        """The pixels that box ``i`` touches, inside the image."""
        height, width = self._shape
        return touched(self._arrays["boxes"][i], width, height)

    def _labels(self, label_map: int) -> NDArray[np.int32]:
        """A label map at the image's size, int32 [height, width]."""
        labels = self._arrays["labels"][label_map]
        if labels.shape == self._shape:
            return np.ascontiguousarray(labels, np.int32)
        rows, columns = self._middles(labels.shape)
        return np.ascontiguousarray(labels[rows][:, columns], np.int32)

    def _middles(self, shape: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the middles of the image's pixels lie in a map of ``shape``: its rows [height], columns [width]."""
        rows, columns = (
            ((np.arange(size) + 0.5) * own / size).astype(np.int64)
            for size, own in zip(self._shape, shape, strict=True)
        )
        return rows, columns

    def _parents(self, hierarchy: int) -> NDArray[np.int32]:
        _, start, n = (int(v) for v in self._arrays["hierarchies"][hierarchy])
        return np.ascontiguousarray(self._arrays["parents"][start : start + 2 * n - 1], np.int32)

    @cached_property
    def _spans(self) -> list[NDArray[np.int32]]:
        """The first place of each node's segments and the one after the last, by hierarchy, int32 [2n - 1, 2]."""
        return [_spans(self._parents(h), int(n)) for h, (_, _, n) in enumerate(self._arrays["hierarchies"].tolist())]

    def _places(self, hierarchy: int) -> NDArray[np.int32]:
        """The place of each segment's pixels in the walk through a hierarchy, int32 of the label map's size."""
        if hierarchy not in self._placed:
            labels = self._arrays["labels"][int(self._arrays["hierarchies"][hierarchy][0])]
            self._placed[hierarchy] = self._spans[hierarchy][:, 0][labels]
        return self._placed[hierarchy]


@njit(cache=True, nogil=True)
def _between(places: Any, first: int, after: int) -> Any:
    """Which of the places, int32 [h, w], lie from ``first`` to before ``after``; bool [h, w]."""
    out = np.empty(places.shape, np.bool_)
    for y in range(places.shape[0]):
        for x in range(places.shape[1]):
            out[y, x] = first <= places[y, x] < after
    return out


@njit(cache=True, nogil=True)
def _count(labels: Any, pixels: Any, column: int, counts: Any) -> None:
    """Add the number of pixels (int64 [k], places in ``labels`` [H * W]) of each label to a column of ``counts``."""
    for pixel in pixels:
        counts[labels[pixel], column] += 1


@njit(cache=True, nogil=True)
def _sum_up(parents: Any, counts: Any) -> None:
    """Add each node's counts to its parent's, which comes after it: int64 [2n - 1, sets] of leaves to those of all."""
    for node in range(len(parents)):
        above = parents[node]
        if above >= 0:
            for column in range(counts.shape[1]):
                counts[above, column] += counts[node, column]


@njit(cache=True, nogil=True)
def _spans(parents: Any, n: int) -> Any:
    """Give the n leaves places so that each node's are successive; int32 [2n - 1, 2], first and one after the last."""
    leaves = np.zeros(len(parents), np.int32)
    leaves[:n] = 1
    for node in range(len(parents)):
        if parents[node] >= 0:
            leaves[parents[node]] += leaves[node]
    spans = np.empty((len(parents), 2), np.int32)
    free = np.empty(len(parents), np.int32)  # the first place in a node that none of its children has taken
    at = 0
    for node in range(len(parents) - 1, -1, -1):
        above = parents[node]
        if above >= 0:
            first = free[above]
            free[above] += leaves[node]
        else:
            first = at
            at += leaves[node]
        free[node] = first
        spans[node, 0], spans[node, 1] = first, first + leaves[node]
    return spans
