"""The regions that a proposals object keeps: each proposal's mask, and the boxes of all, those beyond a cap too.

Arrays of a proposals object (beside ``boxes``):

- ``working_size`` int32 [2]: height, width of the image the proposals were computed on.

and, where the method is selective search,

- ``labels`` unsigned [S, h, w]: initial label maps, one per (k, colour);
- ``parents`` int32: parent of every node of every hierarchy, one after the other; -1 for a root. Nodes 0..n-1 of a
  hierarchy are its label map's regions, n..2n-2 its merges in order;
- ``hierarchies`` int32 [T, 3]: label map, first entry in ``parents``, and number of regions n;
- ``regions`` int32 [count, 2]: hierarchy and node of each proposal;

or, where a file gives regions,

- ``superpixels`` int32 [h, w], from 0 to S - 1;
- ``members`` bool [count, S]: the superpixels of each proposal.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stages.boxes.geometry import touched


def region_mask(arrays: Mapping[str, NDArray[Any]], i: int) -> NDArray[np.bool_]:
    """Mask of proposal ``i`` at the working size: bool [h, w].

    Where the method keeps no regions the mask is the full box (every pixel the box touches, at the image's size).
    """
    if not 0 <= i < len(arrays["boxes"]):
        raise IndexError(f"proposal {i} of {len(arrays['boxes'])}")
    height, width = (int(v) for v in arrays["working_size"])
    if "members" in arrays:
        return np.asarray(arrays["members"][i][arrays["superpixels"]])
    if "regions" not in arrays:
        x1, y1, x2, y2 = touched(arrays["boxes"][i], width, height)
        mask = np.zeros((height, width), np.bool_)
        mask[y1:y2, x1:x2] = True
        return mask
    hierarchy, node = arrays["regions"][i]
    label_map, start, n = (int(v) for v in arrays["hierarchies"][hierarchy])
    members = _leaves(arrays["parents"][start : start + 2 * n - 1], n, int(node))
    return np.asarray(members[arrays["labels"][label_map]])


def _leaves(parents: NDArray[np.int32], n: int, node: int) -> NDArray[np.bool_]:
    """Which of the n regions are part of ``node``: bool [n]. Parents have larger numbers than their children."""
    inside = np.zeros(len(parents), np.bool_)
    inside[node] = True
    for i in range(node - 1, -1, -1):
        inside[i] = parents[i] >= 0 and inside[parents[i]]
    return inside[:n]


def region_boxes(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.int32]:
    """Boxes of all regions at the working size: of each hierarchy's merges, and once of each label map's own regions.

    int32 [m, 4], right and bottom exclusive, not distinct: what was ranked before any box was dropped.
    """
    parts, boxed = [], set()
    for label_map, start, n in arrays["hierarchies"].tolist():
        labels = np.ascontiguousarray(arrays["labels"][label_map], np.int32)
        nodes = _node_boxes(labels, np.ascontiguousarray(arrays["parents"][start : start + 2 * n - 1], np.int32))
        parts.append(nodes[n:] if label_map in boxed else nodes)
        boxed.add(label_map)
    return np.concatenate(parts)


@njit("int32[:,::1](int32[:,::1], int32[::1])", cache=True, nogil=True)
def _node_boxes(labels, parents):  # type: ignore[no-untyped-def]
    """Boxes of all nodes of one hierarchy; parents have larger numbers than their children."""
    height, width = labels.shape
    boxes = np.empty((len(parents), 4), np.int32)
    boxes[:, :2] = max(height, width)
    boxes[:, 2:] = 0
    for y in range(height):
        for x in range(width):
            i = labels[y, x]
            boxes[i, 0] = min(boxes[i, 0], x)
            boxes[i, 1] = min(boxes[i, 1], y)
            boxes[i, 2] = max(boxes[i, 2], x + 1)
            boxes[i, 3] = y + 1
    for i in range(len(parents)):
        above = parents[i]
        if above >= 0:
            boxes[above, 0] = min(boxes[above, 0], boxes[i, 0])
            boxes[above, 1] = min(boxes[above, 1], boxes[i, 1])
            boxes[above, 2] = max(boxes[above, 2], boxes[i, 2])
            boxes[above, 3] = max(boxes[above, 3], boxes[i, 3])
    return boxes
