"""The classification set that comes with ``scenes``: one digit per picture, to pre-train the network on.

``classification.npz`` beside the manifest (``numpy.load(path, allow_pickle=False)``); anybody can write one for another
dataset:

- ``images``: uint8 [n, s, s, 3], RGB, all of one size
- ``labels``: int64 [n], 0 .. k - 1; the classes need not be the detection dataset's, only their order must be fixed
- ``train``: bool [n], True for training and False for validation pictures
- ``classes``: unicode [k], the names (optional)
- ``sources``: int64 [n], what each picture was made from, here the index into ``load_digits`` (optional)

As in ImageNet there is no background class and the object is roughly centred. As ImageNet differs from what a detector
sees, so does this: a digit in even ink on an even sheet, without photographs, distractors, patterns, plates or
occlusion. To learn those is left to fine-tuning. Glyphs are those of the scenes' training split; validation uses
other glyphs than training.
"""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .colours import CLEAR, contrasting
from .digits import digit_shape
from .glyphs import CLASSIFICATION_BLOCKS, Glyph, GlyphBank
from .layers import Layer, paint
from .options import CLASSES, SceneOptions
from .scene import develop, extent_px

CONTEXT = (1.05, 1.6)  # a picture's side over the digit's larger side before it is scaled to ``classification_px``
OFF_CENTRE = 0.1  # the digit's centre is at most this much of the picture's side from the middle
# switches off what digit_shape would add to the bare stroke
PLAIN = SceneOptions(outline_probability=0, plate_probability=0, blur_probability=0)


@dataclass(frozen=True)
class ClassificationSet:
    """The arrays of ``classification.npz``, see the module."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    train: NDArray[np.bool_]
    sources: NDArray[np.int64]

    def to_npz(self) -> bytes:
        """The file's bytes; equal sets give equal bytes (numpy dates every member 1980)."""
        buffer = io.BytesIO()
        np.savez(
            buffer,
            images=self.images,
            labels=self.labels,
            train=self.train,
            classes=np.array(CLASSES),
            sources=self.sources,
        )
        return buffer.getvalue()


def classification_set(bank: GlyphBank, options: SceneOptions) -> ClassificationSet:
    """All pictures, training first; picture i of either part shows class i mod 10 and has a seed of its own."""
    counts = {"train": options.classification_train, "val": options.classification_val}
    images, sources = [], []
    for part, (name, count) in enumerate(counts.items(), start=2):  # 0 and 1 are the seeds of the scenes' splits
        for i in range(count):
            rng = np.random.default_rng(np.random.SeedSequence([options.seed, part, i]))
            glyph = bank.draw(rng, CLASSIFICATION_BLOCKS[name], i % len(CLASSES))
            images.append(digit_picture(rng, glyph, options))
            sources.append(glyph.index)
    side = options.classification_px
    index = np.asarray(sources, np.int64)
    return ClassificationSet(
        images=np.stack(images) if images else np.zeros((0, side, side, 3), np.uint8),
        labels=bank.labels[index],
        train=np.arange(len(index)) < counts["train"],
        sources=index,
    )


def digit_picture(rng: np.random.Generator, glyph: Glyph, options: SceneOptions) -> NDArray[np.uint8]:
    """One digit in even ink on an even sheet: uint8 [s, s, 3], s = ``classification_px``."""
    # A digit higher than the picture would only be drawn to be scaled down again.
    height_px = min(extent_px(rng, options), options.classification_px)
    shape = digit_shape(rng, glyph, height_px, PLAIN)
    x1, y1, x2, y2 = shape.ink_box
    side = round(max(x2 - x1, y2 - y1) * rng.uniform(*CONTEXT))
    sheet = rng.random(3, dtype=np.float32)
    canvas = np.broadcast_to(sheet, (side, side, 3)).copy()
    dx, dy = rng.uniform(-OFF_CENTRE, OFF_CENTRE, size=2) * side
    x, y = round((side - x1 - x2) / 2 + dx), round((side - y1 - y2) / 2 + dy)
    paint(canvas, Layer(shape.stroke, contrasting(rng, sheet, least=CLEAR), x, y))
    px = options.classification_px
    image = Image.fromarray(develop(rng, canvas)).resize((px, px), Image.Resampling.BILINEAR)
    return np.asarray(image)
