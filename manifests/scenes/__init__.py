"""The built-in dataset ``scenes``: handwritten digits on photographs, made from a seed without any download.

What is real: the digits (scikit-learn's ``load_digits``, 13 people's handwriting) and the photographs (scikit-learn's
``load_sample_images``). What is drawn: each digit's affine map, colour, outline, plate, pattern, blur and what is laid
over it. The test split's glyphs and photograph parts are not in the training split, nor in the classification set.

With the default options: 160 training and 80 test scenes of 320 x 240 px with 613 and 325 digits (2 to 6 each), every
class 8 to 13 % of them; boxes 10 to 96 px wide and 18 to 137 px high. Of the digits 10 % are `difficult` (faint, more
than 30 % hidden, cut off by more than 30 %, or a side below 13 px), 7 % `truncated`, 20 % `occluded`. About half of the
things drawn on the photographs are no digits: letter-like strokes, pieces of glyphs, glyphs lying down, plain shapes,
pieces of photographs. Boxes enclose the digit's stroke and outline before occlusion, not the plate it stands on nor the
smear behind it. Selective search at k = 100 in two colour spaces, 250 boxes per image, finds 96 % of the test digits
at IoU 0.5 and 89 % at 0.7.

    from manifests.scenes import SceneOptions
    from manifests.scenes.dataset import write_scenes
    dataset = write_scenes(Path("artifacts/datasets/scenes"), SceneOptions())
"""

from .options import CLASSES, SPLITS, SceneOptions

# write_scenes is not brought up here: it needs scipy, and the command line reads the options at every start.
__all__ = ["CLASSES", "SPLITS", "SceneOptions"]
