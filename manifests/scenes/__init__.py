"""The built-in dataset ``scenes``: handwritten digits on photographs, made from a seed without any download.

What is real: the digits (scikit-learn's ``load_digits``, 13 people's handwriting) and the photographs (scikit-learn's
``load_sample_images``). What is drawn: each digit's affine map, colour, outline, plate, texture, blur and what is laid
over it. The test split's glyphs and photograph parts are not in the training split, nor in the classification set.

With the default options: 160 training and 80 test scenes of 320 x 240 px, 2 to 6 digits each (about 630 and 320
objects, every class 7 to 13 % of them), 28 to 110 px high. About 12 % of the objects are `difficult` (faint, more than
30 % hidden, cut off by more than 30 %, or a side below 13 px), 8 % `truncated`, and 20 % partly hidden. About half of
the things drawn on the photographs are no digits: letter-like strokes, pieces of glyphs, glyphs lying down, plain
shapes, pieces of other photographs. Boxes enclose the digit's stroke and outline before occlusion, not the plate it
stands on.

    from manifests.scenes import SceneOptions
    from manifests.scenes.dataset import write_scenes
    dataset = write_scenes(Path("artifacts/datasets/scenes"), SceneOptions())
"""

from .options import CLASSES, SPLITS, SceneOptions

# write_scenes is not brought up here: it needs scipy, and the command line reads the options at every start.
__all__ = ["CLASSES", "SPLITS", "SceneOptions"]
