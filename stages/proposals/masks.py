"""The segmentation mask of each proposal, rebuilt from what its object keeps.

Arrays of a proposals object (beside ``boxes``):

- ``working_size`` int32 [2]: height, width of the image the proposals were computed on.

and, where the method is selective search,

- ``labels`` unsigned [S, h, w]: initial label maps, one per (k, colour);
- ``parents`` int32: parent of every node of every hierarchy, one after the other; -1 for a root. Nodes 0..n-1 of a
  hierarchy are its label map's regions, n..2n-2 its merges in order;
- ``hierarchies`` int32 [T, 3]: label map, first entry in ``parents``, and number of regions n;
- ``regions`` int32 [count, 2]: hierarchy and node of each proposal.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .selective_search.search import Forest, Proposals


def region_arrays(proposals: Proposals) -> dict[str, NDArray[Any]]:
    """The arrays of a selective-search object."""
    forests = proposals.forests
    largest = max(len(f.segmentation.sizes) for f in forests) - 1
    labels = np.stack([f.segmentation.labels for f in forests]).astype(np.min_scalar_type(largest))
    return {
        "boxes": proposals.boxes,
        "regions": proposals.regions,
        "labels": labels,
        "parents": np.concatenate([tree.parents for f in forests for tree in f.hierarchies]),
        "hierarchies": _hierarchy_table(forests),
        "working_size": np.array(proposals.shape, np.int32),
    }


def _hierarchy_table(forests: Sequence[Forest]) -> NDArray[np.int32]:
    rows, start = [], 0
    for i, forest in enumerate(forests):
        for tree in forest.hierarchies:
            rows.append((i, start, len(forest.segmentation.sizes)))
            start += len(tree.parents)
    return np.array(rows, np.int32)


def region_mask(arrays: Mapping[str, NDArray[Any]], i: int) -> NDArray[np.bool_]:
    """Mask of proposal ``i`` at the working size: bool [h, w].

    Where the method keeps no regions the mask is the full box (every pixel the box touches, at the image's size).
    """
    if not 0 <= i < len(arrays["boxes"]):
        raise IndexError(f"proposal {i} of {len(arrays['boxes'])}")
    height, width = (int(v) for v in arrays["working_size"])
    if "regions" not in arrays:
        x1, y1, x2, y2 = (float(v) for v in arrays["boxes"][i])
        mask = np.zeros((height, width), np.bool_)
        mask[math.floor(y1) : math.ceil(y2), math.floor(x1) : math.ceil(x2)] = True
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
