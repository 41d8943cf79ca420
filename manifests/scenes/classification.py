"""The classification set that comes with ``scenes``: one digit per picture, to pre-train the network on.

``classification.npz`` beside the manifest (``numpy.load(path, allow_pickle=False)``); anybody can write one for another
dataset:

- ``images``: uint8 [n, s, s, 3], RGB, all of one size
- ``labels``: int64 [n], 0 .. k - 1; the classes need not be the detection dataset's, only their order must be fixed
- ``train``: bool [n], True for training and False for validation pictures
- ``classes``: unicode [k], the names (optional)
- ``sources``: int64 [n], what each picture was made from, here the index into ``load_digits`` (optional)

As in ImageNet there is no background class, and the digit is roughly centred, at scales that vary by a factor of two.
Glyphs and photograph parts are those of the scenes' training split; validation uses other glyphs than training.
"""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .digits import digit_layers, digit_shape
from .distractors import random_distractor
from .glyphs import CLASSIFICATION_BLOCKS, Glyph, GlyphBank
from .layers import paint
from .options import CLASSES, SceneOptions
from .photographs import photo_crop
from .placing import occlude, on_canvas
from .scene import develop, extent_px

CONTEXT = (1.05, 1.6)  # a picture's side over the digit's larger side before it is scaled to ``classification_px``
OFF_CENTRE = 0.1  # the digit's centre is at most this much of the picture's side from the middle
_SPLIT = "train"


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
            images.append(digit_picture(rng, bank, glyph, options))
            sources.append(glyph.index)
    side = options.classification_px
    index = np.asarray(sources, np.int64)
    return ClassificationSet(
        images=np.stack(images) if images else np.zeros((0, side, side, 3), np.uint8),
        labels=bank.labels[index],
        train=np.arange(len(index)) < counts["train"],
        sources=index,
    )


def digit_picture(rng: np.random.Generator, bank: GlyphBank, glyph: Glyph, options: SceneOptions) -> NDArray[np.uint8]:
    """One digit as in a scene, cut out with some of its surroundings: uint8 [s, s, 3], s = ``classification_px``."""
    # A digit higher than the picture would only be drawn to be scaled down again.
    height_px = min(extent_px(rng, options), options.classification_px)
    shape = digit_shape(rng, glyph, height_px, options)
    x1, y1, x2, y2 = shape.ink_box
    side = round(max(x2 - x1, y2 - y1) * rng.uniform(*CONTEXT))
    canvas = photo_crop(rng, _SPLIT, side, side, share=min(side / options.height_px, 1))
    if rng.random() < 0.5:
        paint(canvas, random_distractor(rng, bank, _SPLIT, height_px, canvas))
    dx, dy = rng.uniform(-OFF_CENTRE, OFF_CENTRE, size=2) * side
    place = round((side - x1 - x2) / 2 + dx), round((side - y1 - y2) / 2 + dy)
    layers, is_faint = digit_layers(rng, shape, _SPLIT, canvas, *place, options)
    for layer in layers:
        paint(canvas, layer)
    if rng.random() < options.occlusion_probability:
        digit = on_canvas(shape, glyph.index, place, canvas.shape, is_faint)
        occlude(rng, _SPLIT, canvas, digit, [digit])
    px = options.classification_px
    image = Image.fromarray(develop(rng, canvas)).resize((px, px), Image.Resampling.BILINEAR)
    return np.asarray(image)
