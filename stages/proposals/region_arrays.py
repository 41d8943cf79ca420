"""What a proposals object keeps of selective search's regions, which :mod:`stages.regions.masks` reads."""

from collections.abc import Sequence
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
