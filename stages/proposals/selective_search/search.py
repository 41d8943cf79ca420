"""Selective search (Uijlings et al. 2013) as the R-CNN authors run it (rcnn selective_search_boxes.m, "fast mode").

Each pair of ``k`` and colour space gives one initial segmentation; each strategy groups it into a hierarchy. With two
``k``, two colour spaces and two strategies that makes 8 hierarchies. Listing more of each gives the paper's quality
mode.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.boxes.geometry import Boxes
from stages.proposals.ranking import Rng, first_of_each, order_candidates, to_image, working_size

from .colors import Color, convert
from .descriptors import bin_image, histograms
from .grouping import Hierarchy, Strategy, group
from .segmentation import Segmentation, adjacency, pixel_graph, segment


@dataclass(frozen=True)
class Forest:
    """The merge trees over one initial segmentation, one per strategy."""

    segmentation: Segmentation
    hierarchies: tuple[Hierarchy, ...]


@dataclass(frozen=True)
class Proposals:
    """What selective search found in one image.

    Attributes:
        boxes: float32 [n, 4] in the image's pixels, best first.
        regions: int32 [n, 2], hierarchy (forests' hierarchies in order) and node each box belongs to.
        forests: one per (k, colour), k outermost.
        shape: height, width of the image it worked on.
    """

    boxes: Boxes
    regions: NDArray[np.int32]
    forests: tuple[Forest, ...]
    shape: tuple[int, int]


def selective_search(
    rgb: NDArray[np.uint8],
    rng: Rng,
    *,
    k: Sequence[int],
    colors: Sequence[Color],
    strategies: Sequence[Strategy],
    sigma: float,
    min_region_px: int | None,
    min_side_px: int,
    resize_width_px: int | None,
    max_proposals: int | None,
) -> Proposals:
    """Region proposals of one uint8 [H, W, 3] RGB image.

    Args:
        rng: draws the pseudo-random ranking; see :func:`ranking.image_rng`.
        k: scales of the initial segmentation.
        min_region_px: least region of the initial segmentations; None: each one's k.
        min_side_px: smaller boxes are dropped, measured at the size worked on.
        resize_width_px: width to work at (up or down); None works on the image as it is.
        max_proposals: boxes returned, the best; None: all, as the authors return them.
    """
    height, width = rgb.shape[:2]
    pixels = resize(rgb, *working_size(width, height, resize_width_px))
    forests = tuple(grow(pixels, k, colors, strategies, sigma, min_region_px))
    boxes, priorities, regions = candidates(forests)
    kept = order_candidates(boxes, priorities, rng, min_side_px, None)
    mapped = to_image(boxes[kept], width, height, pixels.shape[1])
    first = first_of_each(mapped)[:max_proposals]  # cutting to the image can make two boxes one
    return Proposals(mapped[first], regions[kept][first], forests, (pixels.shape[0], pixels.shape[1]))


def resize(rgb: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """The image at ``width`` x ``height``; averaged when shrunk, bicubic when enlarged.

    The authors use MATLAB's imresize (bicubic, antialiased when shrinking).
    """
    if rgb.shape[:2] == (height, width):
        return np.ascontiguousarray(rgb)
    how = cv2.INTER_AREA if width < rgb.shape[1] else cv2.INTER_CUBIC
    return np.ascontiguousarray(cv2.resize(rgb, (width, height), interpolation=how))


def grow(
    pixels: NDArray[np.uint8],
    k: Sequence[int],
    colors: Sequence[Color],
    strategies: Sequence[Strategy],
    sigma: float,
    min_region_px: int | None = None,
) -> list[Forest]:
    """All merge trees of an image, k outermost; what segmentations and strategies share is computed once."""
    forests: dict[tuple[int, Color], Forest] = {}
    for color in colors:
        converted = convert(pixels, color)
        graph = pixel_graph(converted, sigma)
        bins = bin_image(converted)
        for scale in k:
            regions = segment(graph, scale, min_px=min_region_px or scale)
            neighbours = adjacency(regions.labels, len(regions.sizes))
            counts = histograms(bins, regions.labels, regions.sizes)
            trees = tuple(group(regions, neighbours, *counts, strategy) for strategy in strategies)
            forests[scale, color] = Forest(regions, trees)
    return [forests[scale, color] for scale in k for color in colors]


def candidates(
    forests: Sequence[Forest],
) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.int32]]:
    """Every merged region of every hierarchy, then the initial regions once per segmentation.

    Returns:
        boxes int32 [m, 4]; priorities float64 [m]: root 1, first merge N, initial regions N + 1; regions int32 [m, 2]:
        hierarchy and node. Initial regions are listed under their segmentation's first hierarchy.
    """
    boxes, priorities, regions = [], [], []
    index = 0
    for forest in forests:
        n = len(forest.segmentation.sizes)
        first = index
        for tree in forest.hierarchies:
            boxes.append(tree.boxes[n:])
            priorities.append(np.arange(n - 1, 0, -1.0))
            regions.append(np.column_stack([np.full(n - 1, index), np.arange(n, 2 * n - 1)]))
            index += 1
        boxes.append(forest.segmentation.boxes)
        priorities.append(np.full(n, float(n)))
        regions.append(np.column_stack([np.full(n, first), np.arange(n)]))
    return np.concatenate(boxes), np.concatenate(priorities), np.concatenate(regions).astype(np.int32)
