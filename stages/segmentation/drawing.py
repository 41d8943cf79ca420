"""Maps of classes for people: painted over their photograph in VOC's colours, and where a map's file lies."""

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from manifests import ImageRecord
from manifests.masks import VOID, voc_palette

_SHARE = 0.55  # of the class's colour in a painted pixel


def painted(pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Paint classes over a photograph, uint8 [H, W, 3] RGB; background is greyed, void (255) whitened.

    ``labels`` uint8 [H, W]: 0 background, c + 1 class c, 255 void.
    """
    colours = np.array(voc_palette(), np.float32)
    colours[0], colours[VOID] = (96, 96, 96), (255, 255, 255)
    shown = (1 - _SHARE) * pixels.astype(np.float32) + _SHARE * colours[labels]
    return np.rint(shown).astype(np.uint8)


def map_files(records: Sequence[ImageRecord]) -> list[str]:
    """Name each image's map: its own name with .png; where two would have one, all with .png behind their file's."""
    names = [PurePosixPath(record.file_name).with_suffix(".png").as_posix() for record in records]
    return names if len(set(names)) == len(names) else [f"{record.file_name}.png" for record in records]
