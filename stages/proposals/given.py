"""Proposals that a file gives for one image: boxes, or regions as sets of superpixels, whose boxes follow."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.digest import digest_array
from stages.boxes.geometry import Boxes

_ROWS = 256  # regions at once, so that their superpixels' sides take few bytes
_FAR = np.iinfo(np.int32).max


@dataclass(frozen=True)
class PackedRegions:
    """Regions as sets of superpixels, packed: a run holds those of all its images at once.

    ``shape`` is H, W, n, S; ``digest`` the SHA-256 (hex) of the arrays that are unpacked.
    """

    data: bytes
    shape: tuple[int, int, int, int]
    digest: str

    @classmethod
    def of(cls, superpixels: NDArray[np.int32], members: NDArray[np.bool_]) -> "PackedRegions":
        """Pack superpixels, int32 [H, W], and which of them each region is made of, bool [n, S]."""
        data = superpixels.astype("<i4").tobytes() + np.packbits(members, axis=1).tobytes()
        shape = (*superpixels.shape, *members.shape)
        return cls(zlib.compress(data, 1), shape, digest_array(superpixels, members))

    def unpacked(self) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Return what was packed."""
        data = zlib.decompress(self.data)
        height, width, n, count = self.shape
        superpixels = np.frombuffer(data, "<i4", height * width).reshape(height, width).astype(np.int32)
        bits = np.frombuffer(data, np.uint8, offset=4 * height * width).reshape(n, -(-count // 8))
        return superpixels, np.unpackbits(bits, axis=1, count=count).astype(bool)


@dataclass(frozen=True)
class GivenProposals:
    """One image's proposals, best first: float32 boxes [n, 4], and their regions where the file gives these."""

    boxes: Boxes
    regions: PackedRegions | None = None

    def arrays(self, most: int | None) -> dict[str, NDArray[Any]]:
        """Return the first ``most`` proposals (None: all), by the names of a proposals object's arrays."""
        if self.regions is None:
            return {"boxes": self.boxes[:most]}
        superpixels, members = self.regions.unpacked()
        return {"boxes": self.boxes[:most], "superpixels": superpixels, "members": members[:most]}


def given_regions(superpixels: NDArray[np.int32], members: NDArray[np.bool_]) -> GivenProposals:
    """Make proposals of regions; a region's box is that of its pixels, exactly. ValueError where one has no pixel.

    Args:
        superpixels: int32 [H, W] from 0 to S - 1.
        members: bool [n, S].
    """
    sides = _superpixel_boxes(superpixels, members.shape[1])
    boxes = np.empty((len(members), 4), np.int32)
    for start in range(0, len(members), _ROWS):
        inside = members[start : start + _ROWS]
        for side in range(4):
            far, extreme = (_FAR, np.min) if side < 2 else (0, np.max)
            values = np.where(inside, sides[:, side], far)
            boxes[start : start + _ROWS, side] = extreme(values, axis=1, initial=far)
    empty = np.flatnonzero(boxes[:, 2] == 0)
    if len(empty):
        raise ValueError(f"{len(empty)} regions have no pixel, first in row {empty[0]}")
    return GivenProposals(boxes.astype(np.float32), PackedRegions.of(superpixels, members))


def _superpixel_boxes(superpixels: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """Boxes of all superpixels, int32 [S, 4]; one without a pixel widens no box."""
    height, width = superpixels.shape
    rows, columns = (one.reshape(-1).astype(np.int32) for one in np.indices((height, width), sparse=False))
    flat = superpixels.reshape(-1)
    boxes = np.array([[_FAR, _FAR, 0, 0]], np.int32).repeat(count, axis=0)
    for side, values in enumerate((columns, rows)):
        np.minimum.at(boxes[:, side], flat, values)
        np.maximum.at(boxes[:, side + 2], flat, values + 1)
    return boxes


def regions_of_masks(masks: Sequence[NDArray[np.bool_]], shape: tuple[int, int]) -> GivenProposals:
    """Make proposals of drawn regions, bool [H, W] each, in their order.

    Pixels that are in the same regions are one superpixel. Each pixel gets the sum of its regions' random 64-bit
    numbers (from a seed of our own), and equal sums are one superpixel; that no two kinds of pixels have one sum by
    chance is checked. ValueError where a region has no pixel.
    """
    numbers = np.random.default_rng(0).integers(0, 1 << 63, len(masks), np.uint64)
    sums = np.zeros(shape, np.uint64)
    for mask, number in zip(masks, numbers, strict=True):
        sums[mask] += number
    _, first, labels = np.unique(sums.reshape(-1), return_index=True, return_inverse=True)
    members = np.array([mask.reshape(-1)[first] for mask in masks], bool).reshape(len(masks), len(first))
    superpixels = labels.reshape(shape).astype(np.int32)
    if any((own[superpixels] != mask).any() for own, mask in zip(members, masks, strict=True)):
        raise ValueError("two kinds of pixels have one sum by chance; leave out one region")
    return given_regions(superpixels, members)
