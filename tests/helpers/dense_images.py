"""Pictures with objects, network ``small`` and its maps of them, and windows' trainings put together on these."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from plain_arrays import as_boxes, as_flags, as_labels

from manifests import ImageRecord
from stages.dense.maps import DenseMapsCompute, array_of, described, map_task
from stages.dense.windows import DenseWindows, windows_of
from stages.networks.network import Network, build
from stages.overfeat.pooled_rows import PooledRows, fc6_length
from stages.overfeat.training_images import WindowImages

SCALES = (72, 104, 136)  # windows are of 64 px, 8 px apart
SIZES = ((100, 80), (70, 90), (80, 80))  # width, height
CLASSES = ("ant", "bee")
_BOXES = (((8, 6, 58, 60), (60, 20, 95, 60)), ((5, 20, 65, 80),), ())
_LABELS = ((0, 1), (1,), ())


def small(seed: int = 0, *, normed: bool = False) -> Network:
    """``small`` with three outputs: its own layers, or (``normed``) those of ``network.fc``, with the norm before."""
    options: dict[str, Any] = {"fc": (16, 12), "pyramid": (4,)} if normed else {}
    return build("small", 3, generator=torch.Generator().manual_seed(seed), **options).eval()


def record(
    index: int,
    boxes: Sequence[Sequence[float]] | None = None,
    labels: Sequence[int] | None = None,
    **flags: Sequence[object],
) -> ImageRecord:
    """Return the record of picture ``index``, by default with its objects; two, one and none."""
    width, height = SIZES[index]
    own = as_boxes(_BOXES[index] if boxes is None else boxes)
    named = as_labels(_LABELS[index] if labels is None else labels)
    kinds: dict[str, Any] = {name: as_flags(values) for name, values in flags.items()}
    return ImageRecord(10 + index, f"{index}.png", width, height, f"{index:064x}", "train", own, named, **kinds)


def records() -> list[ImageRecord]:
    return [record(i) for i in range(len(SIZES))]


def picture(of: ImageRecord) -> NDArray[np.uint8]:
    """Noise, and each object a brighter box: uint8 [H, W, 3]."""
    drawn = np.random.default_rng(of.id).integers(0, 120, (of.height, of.width, 3)).astype(np.uint8)
    for x1, y1, x2, y2 in of.boxes.astype(int):
        drawn[y1:y2, x1:x2] += np.array([100, 30, 0], np.uint8)
    return drawn


def images(of: Sequence[ImageRecord] | None = None, *, difficult: bool = False, mirror: bool = True) -> WindowImages:
    return WindowImages(of or records(), windows_of(small()), SCALES, difficult=difficult, mirror=mirror)


def stored_maps(network: Network, of: Sequence[ImageRecord]) -> list[Any]:
    """Return the arrays that the stage ``dense_maps`` stores of each picture and its mirror image."""
    made_of = described(network, SCALES, "float16")
    compute = DenseMapsCompute(picture, network, "cpu", made_of)
    return [compute(map_task(one, made_of, mirrored=True)).arrays for one in of]


def pooled_rows(network: Network, of: Sequence[ImageRecord], *, context: bool = False) -> PooledRows:
    maps = stored_maps(network, of)
    return PooledRows(
        windows_of(network),
        lambda name: maps[name[0]][array_of(name[1], mirrored=name[2])],
        fc6_length(network),
        1 << 24,
        context=context,
    )


def windows() -> DenseWindows:
    return windows_of(small())
