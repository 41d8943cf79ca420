"""Detections drawn onto an image."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cache.errors import StageError
from manifests.describe import class_colour
from manifests.fonts import Font, font_for, one_line
from stages.detections.suppression import Detection
from stages.page.labels import place

_LEAST_FONT_PX = 6
_MOST_PX = 65_500  # a side of a JPEG, as libjpeg writes it


def drawn_jpeg(
    pixels: NDArray[np.uint8],
    detections: Sequence[Detection],
    classes: Sequence[str],
    name: str = "the picture",
    quality: int = 90,
) -> bytes:
    """Draw each detection's box, class and score onto uint8 [H, W, 3] RGB pixels, and give them as a JPEG file.

    StageError, which names the picture: a side is longer than a JPEG can have.

    ``detections`` are best first: the best lie on top, and their labels are placed first.
    """
    image = Image.fromarray(pixels)
    if max(image.size) > _MOST_PX:
        raise StageError(f"{name}: {image.width} x {image.height} px are too long for a drawn JPEG; cut it into parts")
    canvas = ImageDraw.Draw(image)
    thickness = max(2, round(max(image.size) / 300))
    colours = [class_colour(classes.index(found.label)) for found in detections]
    for found, colour in zip(reversed(detections), reversed(colours), strict=True):
        x1, y1, x2, y2 = found.box
        canvas.rectangle((x1, y1, max(x2 - 1, x1), max(y2 - 1, y1)), outline=colour, width=thickness)
    texts = [one_line(f"{found.label} {found.score:.2f}") for found in detections]
    fonts = _fonts(texts, image.size)
    extents = [(fonts[text].getbbox(text)[2] + 5, fonts[text].getbbox(text)[3] + 3) for text in texts]
    corners = place([found.box for found in detections], extents, *image.size)
    for text, colour, (x, y), (w, h) in reversed(list(zip(texts, colours, corners, extents, strict=True))):
        canvas.rectangle((x, y, x + w - 1, y + h - 1), fill=colour)
        canvas.text((x + 2, y), text, fill="white" if sum(colour) < 400 else "black", font=fonts[text])
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _fonts(texts: Sequence[str], extent: tuple[int, int]) -> dict[str, Font]:
    """Each text's font, all of a height in proportion to the image, less where a text would be wider than the image."""
    height = max(11, round(max(extent) / 45))
    fonts = {text: font_for(text, height) for text in texts}
    longest = max((font.getlength(text) for text, font in fonts.items()), default=0) + 5
    if longest <= extent[0]:
        return fonts
    return {text: font_for(text, max(_LEAST_FONT_PX, int(height * extent[0] / longest) - 1)) for text in fonts}
