"""Detections drawn onto an image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from manifests.describe import class_colour

from .detector import Detection


def draw(
    pixels: NDArray[np.uint8], detections: Sequence[Detection], classes: Sequence[str], path: Path, quality: int = 90
) -> None:
    """Write a JPEG of uint8 [H, W, 3] RGB pixels with each detection's box, class and score; best ones on top."""
    image = Image.fromarray(pixels)
    canvas = ImageDraw.Draw(image)
    thickness = max(2, round(max(image.size) / 300))
    font = ImageFont.load_default(max(11, round(max(image.size) / 45)))
    for found in reversed(detections):
        colour = class_colour(classes.index(found.label))
        x1, y1, x2, y2 = found.box
        canvas.rectangle((x1, y1, max(x2 - 1, x1), max(y2 - 1, y1)), outline=colour, width=thickness)
        text = f"{found.label} {found.score:.2f}"
        left, _top, right, bottom = canvas.textbbox((0, 0), text, font=font)
        # Above the box where there is room, else inside it.
        y = y1 - (bottom + 2) if y1 > bottom + 2 else y1
        canvas.rectangle((x1, y, x1 + right - left + 4, y + bottom + 2), fill=colour)
        canvas.text((x1 + 2, y), text, fill="white" if sum(colour) < 400 else "black", font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, "JPEG", quality=quality)
