"""What mask files hold, found while a dataset is imported: their digests, size, objects, boxes and counts."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cache.cores import reading_threads
from cache.errors import DatasetError
from manifests.dataset import MaskSource
from manifests.files import read_inside, sha256_of

from .read import LOOSE, map_parts
from .rle import Mask


@dataclass(frozen=True)
class Part:
    """An object of a mask: its number in the map, category, pixels, and box x1, y1, x2, y2 (exclusive), px."""

    number: int
    category_id: int
    pixels: int
    box: tuple[float, float, float, float]

    @property
    def numbered(self) -> bool:
        """Whether the map has it as an object; else it is what a class has outside all of them."""
        return self.number < LOOSE


@dataclass(frozen=True)
class Examined:
    """A mask source with its files' digests, and what its maps hold; ``size`` is width, height.

    ``present``: the category ids of all pixels that are not void, which may be more than those of the parts.
    ``by_colour``: files whose palette has VOC's colours in another order.
    """

    masks: MaskSource
    size: tuple[int, int]
    parts: tuple[Part, ...]
    void_pixels: int
    present: tuple[int, ...]
    by_colour: tuple[str, ...] = ()


def examine(root: Path, masks: MaskSource) -> Examined:
    """Read the files of a mask source below ``root``; DatasetError as :func:`manifests.masks.read_masks`."""
    digests: dict[str, str] = {}

    def fetch(file_name: str, _: str) -> bytes:
        data = read_inside(root, file_name)
        digests[file_name] = sha256_of(data)
        return data

    parts = map_parts(fetch, masks)
    height, width = parts.void.shape
    found = zip(parts.numbers, parts.categories, parts.objects, strict=True)
    return Examined(
        replace(masks, class_sha256=digests.get(masks.class_map, ""), object_sha256=digests.get(masks.object_map, "")),
        (width, height),
        tuple(Part(number, category, int(mask.sum()), box_of(mask)) for number, category, mask in found if mask.any()),
        int(parts.void.sum()),
        tuple(parts.present),
        parts.by_colour,
    )


def examine_all(root: Path, sources: Sequence[MaskSource]) -> Iterator[Examined | DatasetError]:
    """Examine mask sources in threads (the decoders release the interpreter lock), in their order."""

    def one(masks: MaskSource) -> Examined | DatasetError:
        try:
            return examine(root, masks)
        except DatasetError as error:
            return error

    with ThreadPoolExecutor(reading_threads()) as pool:
        yield from pool.map(one, sources)


def box_of(mask: Mask) -> tuple[float, float, float, float]:
    """The box of a mask's pixels: x1, y1, x2, y2, px, right/bottom exclusive; all 0 where it has none."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return 0.0, 0.0, 0.0, 0.0
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
