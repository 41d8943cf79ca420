"""How many pixels each class of a dataset with masks has, and its masks drawn over an image."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from cache.cores import reading_threads
from cache.errors import DatasetError

from .dataset import Dataset, ImageRecord
from .images import Pixels
from .masks import VOID, Masks, read_masks
from .source import ImageSource

_OPACITY = 0.55  # of a mask over its image


def count_pixels(dataset: Dataset, source: ImageSource) -> dict[int, NDArray[np.int64]]:
    """Count the pixels of each image with masks: by image id int64 [256], as ``Masks.class_map`` numbers them.

    DatasetError: every mask that cannot be read.
    """

    def count(record: ImageRecord) -> NDArray[np.int64] | DatasetError:
        try:
            drawn = read_masks(source, record, dataset.category_ids).class_map()
        except DatasetError as error:
            return error
        return np.bincount(drawn.reshape(-1), minlength=256)

    records = [record for record in dataset.images if record.masks is not None]
    with ThreadPoolExecutor(reading_threads()) as pool:
        counts = dict(zip((record.id for record in records), pool.map(count, records), strict=True))
    problems = [line for one in counts.values() if isinstance(one, DatasetError) for line in one.problems]
    if problems:
        raise DatasetError(problems)
    return {image_id: one for image_id, one in counts.items() if not isinstance(one, DatasetError)}


def pixel_rows(dataset: Dataset, counts: dict[int, NDArray[np.int64]]) -> list[list[str]]:
    """Pixels per class (rows) and split (columns), their share of all, and in how many images there are any."""
    splits = dataset.splits
    members = {split: [r.id for r in dataset.split(split) if r.id in counts] for split in splits}
    stack = np.stack(list(counts.values())) if counts else np.zeros((0, 256), np.int64)
    whole = max(int(stack.sum()), 1)
    rows = [["pixels", *splits, "all", "share", "images"]]
    named = {0: "background", **{i + 1: label for i, label in enumerate(dataset.classes)}, VOID: "void"}
    for value, label in named.items():
        cells = [str(sum(int(counts[i][value]) for i in members[split])) for split in splits]
        total = int(stack[:, value].sum())
        rows.append([label, *cells, str(total), f"{total / whole:.2%}", str(int((stack[:, value] > 0).sum()))])
    return [*rows, ["images with masks", *(str(len(members[split])) for split in splits), str(len(counts)), "", ""]]


def draw_masks(pixels: Pixels, masks: Masks, colours: Sequence[tuple[int, int, int]]) -> Pixels:
    """Draw masks over an image, uint8 [H, W, 3]: each object in its class's colour with a rim, void in grey."""
    drawn = pixels.astype(np.float32)
    for mask, label in zip(masks.objects, masks.classes, strict=True):
        drawn[mask] += _OPACITY * (np.array(colours[label], np.float32) - drawn[mask])
    drawn[masks.void] += _OPACITY * (np.float32(128) - drawn[masks.void])
    for mask, label in zip(masks.objects, masks.classes, strict=True):
        drawn[_rim(mask)] = colours[label]
    return drawn.round().astype(np.uint8)


def _rim(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of a mask beside one that is none of it."""
    inner = np.pad(mask, 1)
    whole = inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    return mask & ~whole
