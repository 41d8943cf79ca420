"""Training images as OverFeat's trainings take them: their windows at every scale, and what is in them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cache.errors import StageError
from manifests import ImageRecord
from stages.boxes.geometry import Boxes, area
from stages.dense.windows import DenseWindows
from stages.training.images import ImageSide, in_epochs, objects_of
from stages.training.loop import TrainingRun, generator

from .places import ImageGrid, image_grid

_GRIDS = 64  # sizes of images whose windows' places are kept


@dataclass(frozen=True)
class WindowObjects:
    """What is annotated in an image, or its mirror image.

    ``boxes`` float32 [m, 4] and ``labels`` int64 [m] are all objects', difficult ones too; ``counted`` bool [m] tells
    which are trained on; ``crowds`` float32 [k, 4] are crowd regions, which are no objects.
    """

    boxes: Boxes
    labels: NDArray[np.int64]
    counted: NDArray[np.bool_]
    crowds: Boxes


class WindowImages:
    """The images of one training, at the scales of their maps; safe to use from several threads.

    Args:
        records: the images.
        scales_px: in rising order.
        difficult: whether difficult objects are trained on.
        mirror: whether each image's mirror image is trained on, too.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        windows: DenseWindows,
        scales_px: Sequence[int],
        *,
        difficult: bool,
        mirror: bool,
    ) -> None:
        self.records, self.windows, self._difficult = list(records), windows, difficult
        self.sides = [ImageSide(i, mirrored) for mirrored in (False, True)[: 1 + mirror] for i in range(len(records))]

        @lru_cache(_GRIDS)
        def grid_of(width: int, height: int) -> ImageGrid:
            return image_grid(width, height, scales_px, windows)

        self._grid_of = grid_of

    def grid(self, side: ImageSide) -> ImageGrid:
        """Return the windows of an image; those of its mirror image lie in the same places of that."""
        record = self.records[side.image]
        return self._grid_of(record.width, record.height)

    def objects(self, side: ImageSide) -> WindowObjects:
        """Return what is annotated in an image or its mirror image."""
        record = self.records[side.image]
        found = objects_of(record, difficult=True)
        if side.mirrored:
            found = found.mirrored(record.width)
        counted = ~record.difficult[~record.crowd] | self._difficult
        return WindowObjects(found.boxes, found.labels, counted, found.crowds)

    def check_objects(self, group: str) -> None:
        """Raise ``StageError`` where no image shows an object to train on."""
        if not any(self.objects(ImageSide(i, mirrored=False)).counted.any() for i in range(len(self.records))):
            raise StageError(
                f"{group}: no image of the train split shows an object that is trained on; annotate some, or set "
                f"{group}.difficult to true if all are marked difficult"
            )

    def sizes_told(self) -> str:
        """Tell how large objects and windows are in the images, and at which scale they would be of one size."""
        sides, ratios, seen = [], [], []
        for index, record in enumerate(self.records):
            side = ImageSide(index, mirrored=False)
            objects = self.objects(side)
            own = np.sqrt(area(objects.boxes[objects.counted]))
            sides.append(own)
            ratios.append(own / min(record.width, record.height))
            seen.append(np.sqrt(area(self.grid(side).boxes)))
        objects_px, windows_px = np.concatenate(sides), np.concatenate(seen)
        middle = max(round(self.windows.side_px / float(np.median(np.concatenate(ratios)))), self.windows.side_px)
        return (
            f"objects are of {objects_px.min():.0f} to {objects_px.max():.0f} px and windows of {windows_px.min():.0f} "
            f"to {windows_px.max():.0f} px in the images; add scales to maps.scales_px, such as {middle}, at which a "
            "window is as large as the objects' median"
        )

    def batches(
        self, sides: Sequence[ImageSide], per_batch: int, run: TrainingRun
    ) -> Callable[[int], tuple[ImageSide, ...]]:
        """Return what names the images of mini-batch ``number``: in epochs, each a permutation of ``sides``."""
        alike = [True] * len(sides)  # each image is pooled by itself, whatever its form
        return in_epochs(sides, alike, per_batch, lambda epoch: generator(run.seed, run.stage, "epoch", epoch))

    def names(self, sides_of: Callable[[int], tuple[ImageSide, ...]]) -> Callable[[int], str]:
        """Return what names the images of batch ``number`` for a message, those mirrored as such."""

        def name(number: int) -> str:
            return ", ".join(
                self.records[one.image].file_name + (" (mirrored)" if one.mirrored else "") for one in sides_of(number)
            )

        return name
