"""Scenes: boxes fit what is drawn, flags mean what they say."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from manifests.scenes import SceneOptions
from manifests.scenes.colours import CLEAR, contrast, contrasting, faint, pattern, random_colour
from manifests.scenes.digits import digit_layers, digit_shape
from manifests.scenes.distractors import KINDS, occluder, random_distractor
from manifests.scenes.glyphs import BLOCKS, Glyph, GlyphBank, glyph_bank
from manifests.scenes.layers import Layer, affine, extent, frame, overlap, paint
from manifests.scenes.photographs import photo_crop
from manifests.scenes.placing import CROWDING, HIDDEN_MOST, on_canvas
from manifests.scenes.scene import SMALL_PX, VISIBLE, Scene, compose

BANK = glyph_bank()
PLAIN = SceneOptions(
    outline_probability=0,
    plate_probability=0,
    blur_probability=0,
    texture_probability=0,
    translucent_probability=0,
    smear_probability=0,
    low_contrast_probability=0,
)


def rng_of(*seed: int) -> np.random.Generator:
    return np.random.default_rng(list(seed))


def extent_of(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The extent of what is there."""
    found = extent(mask)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def scenes() -> list[tuple[str, Scene]]:
    options = SceneOptions(n_train=30, n_test=10)
    return [
        (split, compose(rng_of(i, k), BANK, split, options))
        for k, (split, count) in enumerate((("train", 30), ("test", 10)))
        for i in range(count)
    ]


@given(seed=st.integers(0, 10_000), outlined=st.booleans(), height=st.integers(14, 110))
@example(seed=147, outlined=False, height=14)  # nothing of it is on the canvas
@example(seed=537, outlined=False, height=14)  # cut by the left border; a soft pixel two rows below the rest
@settings(max_examples=25, deadline=None)
def test_box_is_the_extent_of_the_digit_painted_alone(seed: int, outlined: bool, height: int) -> None:
    """Painted in white (rim included) on black, what is at least half covered is exactly the box."""
    options = replace(PLAIN, outline_probability=float(outlined))
    glyph = BANK[seed % 1797]
    shape = digit_shape(rng_of(seed), glyph, height, options)
    x, y = (int(v) for v in rng_of(seed, 1).integers(-10, 120, size=2))
    canvas = np.zeros((240, 320, 3), np.float32)
    layers, is_faint = digit_layers(rng_of(seed, 2), shape, "train", canvas + 0.5, x, y, options)
    for layer in layers:
        paint(canvas, replace(layer, colour=np.ones(3, np.float32)))
    rows, cols = np.nonzero(canvas[:, :, 0] >= 0.5)
    assume(len(rows))  # a narrow digit may lie left of the canvas altogether, where no scene has one
    expected = (cols.min(), rows.min(), cols.max() + 1, rows.max() + 1)
    assert on_canvas(shape, glyph.index, (x, y), canvas.shape, is_faint).box == expected
    assert not is_faint
    # Nothing is drawn more than a pixel outside the box of the whole digit; what the image's border leaves of it may
    # end in soft pixels further from what is at least half covered.
    x1, y1, x2, y2 = np.add(shape.ink_box, (x, y, x, y)).tolist()
    canvas[max(y1 - 1, 0) : max(y2 + 1, 0), max(x1 - 1, 0) : max(x2 + 1, 0)] = 0
    assert canvas.max() == 0


def test_height_is_about_what_was_asked_for() -> None:
    heights = []
    for seed in range(40):
        shape = digit_shape(rng_of(seed), BANK[seed], 60, PLAIN)
        heights.append(shape.ink_box[3] - shape.ink_box[1])
    assert 50 < np.median(heights) < 75
    assert min(heights) > 35
    assert max(heights) < 110


def test_plate_is_drawn_around_the_digit_but_not_in_its_box() -> None:
    options = replace(PLAIN, plate_probability=1)
    for seed in range(10):
        shape = digit_shape(rng_of(seed), BANK[seed], 60, options)
        body, ink = extent_of(shape.body), shape.ink_box
        assert body[0] < ink[0] and body[1] < ink[1] and body[2] > ink[2] and body[3] > ink[3]


def test_boxes_lie_inside_the_image_and_have_area(scenes: list[tuple[str, Scene]]) -> None:
    for _, one in scenes:
        height, width = one.pixels.shape[:2]
        assert one.pixels.dtype == np.uint8
        for o in one.objects:
            x1, y1, x2, y2 = o.box
            assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height


def test_glyphs_are_of_the_split_and_the_class(scenes: list[tuple[str, Scene]]) -> None:
    for split, one in scenes:
        for o in one.objects:
            assert o.glyph in BLOCKS[split]
            assert o.label == BANK.labels[o.glyph]


def test_truncated_boxes_touch_the_border_and_others_do_not(scenes: list[tuple[str, Scene]]) -> None:
    seen = set()
    for _, one in scenes:
        height, width = one.pixels.shape[:2]
        for o in one.objects:
            x1, y1, x2, y2 = o.box
            assert o.truncated == (x1 == 0 or y1 == 0 or x2 == width or y2 == height)
            seen.add(o.truncated)
    assert seen == {True, False}


def test_difficult_covers_small_and_hidden_digits(scenes: list[tuple[str, Scene]]) -> None:
    objects = [o for _, one in scenes for o in one.objects]
    for o in objects:
        x1, y1, x2, y2 = o.box
        if min(x2 - x1, y2 - y1) < SMALL_PX or o.visible < VISIBLE:
            assert o.difficult
    assert 0.03 < np.mean([o.difficult for o in objects]) < 0.25


def test_nothing_hides_too_much_of_a_digit(scenes: list[tuple[str, Scene]]) -> None:
    """Occluders are refused above the limit; neighbours overlap by CROWDING of the smaller body at the most."""
    shares = [o.visible for _, one in scenes for o in one.objects]
    assert min(shares) >= 1 - HIDDEN_MOST - 5 * CROWDING
    assert 0.05 < np.mean([s < 0.95 for s in shares]) < 0.4


def test_without_options_nothing_is_difficult_hidden_or_cut() -> None:
    options = replace(PLAIN, occlusion_probability=0, truncation_probability=0, objects_min=1, objects_max=1)
    for seed in range(8):
        one = compose(rng_of(seed), BANK, "train", options)
        assert len(one.objects) == 1
        assert one.objects[0].visible == 1
        assert not one.objects[0].truncated


def test_a_digit_can_be_seen_in_its_scene() -> None:
    """The pixels of a plain digit differ from its surroundings, and are all but uniform."""
    options = replace(PLAIN, occlusion_probability=0, truncation_probability=0, distractors_max=0, distractors_min=0)
    options = replace(options, objects_min=1, objects_max=1, object_min_px=60)
    gaps = []
    for seed in range(8):
        one = compose(rng_of(seed), BANK, "test", options)
        without = _background(seed, options)
        changed = np.abs(one.pixels.astype(int) - without.astype(int)).mean(axis=2)
        x1, y1, x2, y2 = one.objects[0].box
        inside = changed[y1:y2, x1:x2]
        outside = changed.copy()
        outside[max(y1 - 4, 0) : y2 + 4, max(x1 - 4, 0) : x2 + 4] = 0
        gaps.append(np.quantile(inside, 0.9))
        assert np.quantile(outside, 0.99) < 40  # the camera only: noise, and blur of the photograph's edges
    assert min(gaps) > 25


def _background(seed: int, options: SceneOptions) -> NDArray[np.uint8]:
    """The same scene before any digit is painted: the photograph is the first thing drawn from the generator."""
    canvas = photo_crop(rng_of(seed), "test", options.width_px, options.height_px)
    pixels: NDArray[np.uint8] = np.clip(np.rint(canvas * 255), 0, 255).astype(np.uint8)
    return pixels


def test_same_generator_same_scene_another_generator_another_scene() -> None:
    a, b, c = (compose(rng_of(s), BANK, "train", SceneOptions()) for s in (5, 5, 6))
    np.testing.assert_array_equal(a.pixels, b.pixels)
    assert a.objects == b.objects
    assert not np.array_equal(a.pixels, c.pixels)


@pytest.mark.parametrize("split", list(BLOCKS))
def test_distractors_use_their_split_s_glyphs_only(split: str) -> None:
    used: list[range] = []

    class Spy(GlyphBank):
        def __init__(self) -> None:
            pass

        def draw(self, rng: np.random.Generator, block: range, label: int) -> Glyph:
            used.append(block)
            return BANK.draw(rng, block, label)

    canvas = np.zeros((100, 100, 3), np.float32)
    for seed in range(60):
        layer = random_distractor(rng_of(seed), Spy(), split, 40, canvas)
        assert overlap(layer.coverage.shape, layer.x, layer.y, canvas.shape)[0][0].stop > 0
        assert 0.02 < layer.coverage.mean() <= 1
    assert used and set(used) == {BLOCKS[split]}
    assert len(KINDS) == 6


def test_smears_lie_behind_the_digit_and_have_nearly_its_colour() -> None:
    canvas = np.full((200, 200, 3), 0.5, np.float32)
    for seed in range(10):
        options = replace(PLAIN, smear_probability=1)
        shape = digit_shape(rng_of(seed), BANK[seed], 60, options)
        (smeared, stroke), _ = digit_layers(rng_of(seed), shape, "train", canvas, 50, 50, options)
        np.testing.assert_array_equal(stroke.coverage, shape.stroke)
        assert 0.03 < contrast(smeared.colour, stroke.colour) < 0.14
        x1, y1, x2, y2 = extent_of(smeared.coverage >= 0.5)
        a1, b1, a2, b2 = shape.ink_box
        assert smeared.x + x1 < 50 + a2 and smeared.x + x2 > 50 + a1
        assert smeared.y + y1 < 50 + b2 and smeared.y + y2 > 50 + b1


@pytest.mark.parametrize("split", ["train", "test"])
def test_digits_filled_with_a_photograph_use_their_split_s(split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from manifests.scenes import digits

    asked: list[str] = []

    def spy(rng: np.random.Generator, split: str, *args: Any, **kwargs: Any) -> NDArray[np.float32]:
        asked.append(split)
        return photo_crop(rng, split, *args, **kwargs)

    monkeypatch.setattr(digits, "photo_crop", spy)
    options = replace(PLAIN, texture_probability=1)
    for seed in range(12):
        shape = digit_shape(rng_of(seed), BANK[seed], 40, options)
        digit_layers(rng_of(seed), shape, split, np.zeros((99, 99, 3), np.float32), 5, 5, options)
    assert asked and set(asked) == {split}


def test_occluders_have_the_extent_asked_for() -> None:
    for seed in range(20):
        layer = occluder(rng_of(seed), "train", 40)
        x1, y1, x2, y2 = extent_of(layer.coverage >= 0.5)
        assert 20 < max(x2 - x1, y2 - y1) < 75


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_contrasts_are_kept(seed: int) -> None:
    rng = rng_of(seed)
    ground = random_colour(rng)
    assert contrast(contrasting(rng, ground), ground) >= CLEAR
    assert 0.03 < contrast(faint(rng, ground), ground) < 0.14
    window = frame(rng, affine(10, 0, 0, 1), (2.0, 2.0))
    other = contrasting(rng, ground)
    mixed = pattern(rng, window, ground, other, 1.0)
    # Every pixel is a mix of the two colours, and both can be seen.
    weight = ((mixed - ground) @ (other - ground)) / ((other - ground) @ (other - ground))
    np.testing.assert_allclose(mixed, ground + weight[..., None] * (other - ground), atol=1e-5)
    assert weight.min() < 0.3
    assert weight.max() > 0.7


def test_contrast_by_hand() -> None:
    black, white = np.zeros(3, np.float32), np.ones(3, np.float32)
    assert contrast(black, white) == pytest.approx(1)
    assert contrast(np.array([0.3, 0, 0], np.float32), black) == pytest.approx(0.3 / 3**0.5)


@pytest.mark.parametrize(("x", "y"), [(0, 0), (-3, 2), (6, -2), (8, 8), (-9, 0), (40, 40)])
def test_painting_off_the_canvas_keeps_what_is_on_it(x: int, y: int) -> None:
    canvas = np.zeros((10, 12, 3), np.float32)
    paint(canvas, Layer(np.full((5, 4), 0.5, np.float32), np.array([1, 0.5, 0], np.float32), x, y))
    expected = np.zeros_like(canvas)
    for r in range(10):
        for c in range(12):
            if 0 <= r - y < 5 and 0 <= c - x < 4:
                expected[r, c] = [0.5, 0.25, 0]
    np.testing.assert_allclose(canvas, expected)


def test_affine_rotates_and_scales_by_hand() -> None:
    np.testing.assert_allclose(affine(2, 90, 0, 1) @ [1, 0], [0, 2], atol=1e-12)
    np.testing.assert_allclose(affine(1, 0, 0, 4) @ [1, 1], [2, 0.5])
    np.testing.assert_allclose(affine(1, 0, 0.5, 1) @ [0, 1], [0.5, 1])
    assert frame(rng_of(0), affine(3, 20, 0.1, 1.3), (1.0, 1.0)).scale == pytest.approx(3)
