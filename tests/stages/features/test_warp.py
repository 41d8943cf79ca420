"""Warping against a slow float64 version of the authors' rcnn_im_crop.m, OpenCV, and hand-computed cases."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cache.errors import StageError
from stages.features.warp import CropMode, Layout, Padding, crop_frames, placements, round_half_away, warp_regions
from stages.networks.spec import InputSpec

CAFFE = InputSpec(227, "bgr", 255.0, (104.0, 117.0, 123.0))
TORCH = InputSpec(64, "rgb", 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def photograph(seed: int, height: int = 90, width: int = 120) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 6, width // 6, 3), np.uint8)
    return np.asarray(np.clip(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), 0, 255), np.uint8)


def matlab_round(value: float) -> int:
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def imresize(values: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Matlab's imresize along axis 0, bilinear, antialiasing off: half-pixel centres, edges repeated."""
    m = len(values)
    out = np.zeros((n, *values.shape[1:]))
    for i in range(n):
        u = (i + 0.5) * m / n - 0.5
        a = math.floor(u)
        w = u - a
        out[i] = (1 - w) * values[min(max(a, 0), m - 1)] + w * values[min(max(a + 1, 0), m - 1)]
    return out


def slow_crop(
    image: NDArray[np.uint8],
    box: NDArray[np.float64],
    spec: InputSpec,
    mode: CropMode,
    p: int,
    padding: str = "mean",
    mask: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """rcnn_im_crop.m step by step, 1-based inclusive, float64; [3, side, side]. Replication and masks are ours."""
    side, (height, width) = spec.side_px, image.shape[:2]
    im = image.astype(np.float64) * spec.value_range / 255
    if spec.color_order == "bgr":
        im = im[:, :, ::-1]
    if mask is not None:
        for y, x in zip(*np.nonzero(~mask), strict=True):
            im[y, x] = spec.mean
    im = (im - spec.mean) / spec.std
    x1, y1, x2, y2 = box[0] + 1, box[1] + 1, box[2], box[3]
    window = np.zeros((side, side, 3))
    frame: tuple[int, ...]
    limits = (1, 1, width, height)
    if p == 0 and mode == "warp":
        x1, y1, x2, y2 = (matlab_round(v) for v in (x1, y1, x2, y2))
        frame = x1, y1, x2, y2
    else:
        s = side / (side - 2 * p)
        hw, hh = (x2 - x1 + 1) / 2, (y2 - y1 + 1) / 2
        cx, cy = x1 + hw, y1 + hh
        if mode != "warp":
            reach = max(hw, hh)
            if mode == "square_no_context":
                # what shows: the proposal and p pixels around it, at the scale of the crop
                ex, ey = (h + p * (2 * reach * s) / side for h in (hw, hh))
                shown = [matlab_round(v) for v in (cx - ex, cy - ey, cx + ex, cy + ey)]
                limits = (max(1, shown[0]), max(1, shown[1]), min(width, shown[2]), min(height, shown[3]))
            hw = hh = reach
        frame = tuple(matlab_round(v) for v in (cx - hw * s, cy - hh * s, cx + hw * s, cy + hh * s))
    # A box of less than a pixel can round to nothing; R never meets one, here it gives an empty crop.
    fw, fh = max(frame[2] - frame[0] + 1, 1), max(frame[3] - frame[1] + 1, 1)
    pad_x, pad_y = max(0, limits[0] - frame[0]), max(0, limits[1] - frame[1])
    x1, y1 = max(limits[0], frame[0]), max(limits[1], frame[1])
    x2, y2 = min(limits[2], frame[2]), min(limits[3], frame[3])
    crop_w, crop_h = matlab_round((x2 - x1 + 1) * side / fw), matlab_round((y2 - y1 + 1) * side / fh)
    pad_x, pad_y = matlab_round(pad_x * side / fw), matlab_round(pad_y * side / fh)
    crop_w, crop_h = min(crop_w, side - pad_x), min(crop_h, side - pad_y)
    if crop_w > 0 and crop_h > 0 and x2 >= x1 and y2 >= y1:
        part = im[y1 - 1 : y2, x1 - 1 : x2]
        part = imresize(part, crop_h)
        part = imresize(part.transpose(1, 0, 2), crop_w).transpose(1, 0, 2)
        window[pad_y : pad_y + crop_h, pad_x : pad_x + crop_w] = part
        if padding == "replicate":
            nearest_y, nearest_x = (
                [min(max(i, pad), pad + extent - 1) for i in range(side)]
                for pad, extent in ((pad_y, crop_h), (pad_x, crop_w))
            )
            window = window[nearest_y][:, nearest_x]
    return window.transpose(2, 0, 1)


MODES: list[CropMode] = ["warp", "square", "square_no_context"]
PADDINGS: list[Padding] = ["mean", "replicate"]


def test_rounding_is_matlabs() -> None:
    values = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 0.49, -0.49, 3.0])
    assert round_half_away(values).tolist() == [1, 2, 3, -1, -2, 0, 0, 3]


def test_the_authors_arithmetic() -> None:
    """[101, 200] (1-based inclusive) with 16 px of context at 227 becomes [93, 209]."""
    frame, visible = crop_frames(np.array([[100, 100, 200, 200]]), 227, mode="warp", context_px=16)
    assert (frame[0] + [1, 1, 0, 0]).tolist() == [93, 93, 209, 209]
    assert visible.tolist() == frame.tolist()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("p", [0, 4, 16])
@pytest.mark.parametrize("spec", [CAFFE, TORCH], ids=["caffe", "torch"])
def test_equals_the_slow_version(mode: CropMode, p: int, spec: InputSpec) -> None:
    image = photograph(0)
    boxes = np.array(
        [
            [30, 20, 70, 80],
            [0, 0, 120, 90],  # whole image: padded on all sides
            [0, 0, 7, 50],
            [100.4, 70.5, 120, 90],  # fractional, in the corner
            [50, 40, 51, 41],  # one pixel
            [0, 44, 120, 46],  # flat
        ],
        np.float32,
    )
    crops = warp_regions(image, boxes, spec, mode=mode, context_px=p)
    assert crops.dtype == np.float32
    assert crops.shape == (6, 3, spec.side_px, spec.side_px)
    for box, crop in zip(boxes, crops, strict=True):
        expected = slow_crop(image, box.astype(np.float64), spec, mode, p)
        np.testing.assert_allclose(crop, expected, rtol=0, atol=1e-4 * spec.value_range / min(spec.std) / 255)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.floats(-10, 130, width=32), min_size=4, max_size=4),
    st.sampled_from(MODES),
    st.integers(0, 31),
    st.integers(0, 1000),
    st.sampled_from(PADDINGS),
)
def test_equals_the_slow_version_anywhere(
    corners: list[float], mode: CropMode, p: int, seed: int, padding: Padding
) -> None:
    x1, x2 = sorted(corners[:2])
    y1, y2 = sorted(corners[2:])
    box = np.array([x1, y1, x2 + 0.75, y2 + 0.75], np.float32)
    image = photograph(seed % 3, 60, 80)
    crop = warp_regions(image, box[None], TORCH, mode=mode, context_px=p, padding=padding)[0]
    expected = slow_crop(image, box.astype(np.float64), TORCH, mode, p, padding)
    np.testing.assert_allclose(crop, expected, rtol=0, atol=1e-4)


def test_equals_opencv_inside_the_image() -> None:
    image = photograph(1)
    box = np.array([[20, 10, 90, 75]], np.float32)
    spec = InputSpec(101, "rgb", 255.0)
    crop = warp_regions(image, box, spec, context_px=0)[0].transpose(1, 2, 0)
    expected = cv2.resize(image[10:75, 20:90], (101, 101), interpolation=cv2.INTER_LINEAR)
    assert np.abs(crop - expected).max() <= 1.0  # OpenCV's is rounded to whole levels with 11-bit weights
    same = warp_regions(image, np.array([[5, 6, 69, 70]]), TORCH, context_px=0)[0]
    pixels = (image[6:70, 5:69] / 255 - TORCH.mean) / TORCH.std
    np.testing.assert_allclose(same, pixels.transpose(2, 0, 1), atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_missing_pixels_are_the_mean(mode: CropMode) -> None:
    image = np.full((40, 60, 3), 200, np.uint8)
    crop = warp_regions(image, np.array([[0, 0, 20, 30]]), CAFFE, mode=mode)[0]
    assert (crop[:, :16, :16] == 0).all()
    inside = np.array([200.0, 200, 200]) - CAFFE.mean
    assert (crop[:, 113, 113] == inside.astype(np.float32)).all()
    assert set(np.unique(crop)) == {0.0, *inside.astype(np.float32)}


@pytest.mark.parametrize("mode", MODES)
def test_replication_repeats_the_nearest_pixel_that_is_there(mode: CropMode) -> None:
    """Every pixel of a crop of a grey image is that grey; a mirrored crop is the mirror image."""
    boxes = np.array([[0, 0, 20, 30], [50, 35, 60, 40], [20, 10, 40, 30]])
    grey = warp_regions(np.full((40, 60, 3), 200, np.uint8), boxes, CAFFE, mode=mode, padding="replicate")
    assert (grey == (np.float32(200) - np.array(CAFFE.mean, np.float32))[:, None, None]).all()
    image = photograph(4, 40, 60)
    both = [warp_regions(image, boxes, CAFFE, mode=mode, padding=padding) for padding in PADDINGS]
    placed = placements(boxes, 60, 40, CAFFE.side_px, mode=mode, context_px=16)[1]
    for one, other, (x1, y1, x2, y2) in zip(*both, placed.tolist(), strict=True):
        assert np.array_equal(one[:, y1:y2, x1:x2], other[:, y1:y2, x1:x2])
        assert np.array_equal(other[:, 0, 0], one[:, y1, x1])
        assert np.array_equal(other[:, -1, -1], one[:, y2 - 1, x2 - 1])
    flipped = warp_regions(image, boxes, CAFFE, mode=mode, padding="replicate", mirror=np.ones(3, bool))
    assert np.array_equal(flipped, both[1][..., ::-1])


def test_a_region_outside_the_image_is_the_mean_however_it_is_padded() -> None:
    crops = warp_regions(photograph(0), np.array([[500, 500, 510, 520]]), TORCH, context_px=0, padding="replicate")
    assert not crops.any()


def test_square_keeps_the_aspect_and_no_context_hides_the_rest() -> None:
    image = np.full((200, 200, 3), 200, np.uint8)
    box = np.array([[90, 60, 110, 140]])
    spec = InputSpec(80, "rgb", 255.0)
    shown = {m: warp_regions(image, box, spec, mode=m, context_px=0)[0, 0] > 0 for m in MODES}
    assert shown["warp"].all()
    assert shown["square"].all()
    hidden = shown["square_no_context"]
    assert hidden.any(axis=1).all()  # full height
    assert 20 <= hidden.any(axis=0).sum() <= 21  # 20 px wide at scale 1; the authors' frames are one pixel larger
    bordered = warp_regions(image, box, InputSpec(112, "rgb", 255.0), mode="square_no_context", context_px=16)[0, 0] > 0
    assert 52 <= bordered.any(axis=0).sum() <= 53  # 16 px more on each side


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_mirror_layout_and_out_change_no_value(layout: Layout) -> None:
    image, spec = photograph(2), CAFFE
    boxes = np.array([[0, 0, 30, 40], [10, 10, 100, 80], [80, 50, 120, 90.0]])
    plain = warp_regions(image, boxes, spec)
    mirror = np.array([True, False, True])
    out = np.full((3, 3, 227, 227), np.nan, np.float32)
    if layout == "nhwc":
        out = out.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
    crops = warp_regions(image, boxes, spec, mirror=mirror, out=out)
    assert crops is out
    assert np.array_equal(crops[1], plain[1])
    assert np.array_equal(crops[[0, 2]], plain[[0, 2]][..., ::-1])
    fresh = warp_regions(image, boxes, spec, layout=layout)
    assert np.array_equal(fresh, plain)
    assert (fresh.strides[1] == 4) == (layout == "nhwc")


def test_a_region_alone_has_the_bits_it_has_among_others() -> None:
    """The image is converted whole or region by region, whichever is less work."""
    image = photograph(3)
    boxes = np.array([[5 + i, 3, 60 + i, 70] for i in range(20)])
    together = warp_regions(image, boxes, CAFFE)
    for i in (0, 7, 19):
        assert np.array_equal(warp_regions(image, boxes[i : i + 1], CAFFE)[0], together[i])


def test_no_regions() -> None:
    assert warp_regions(photograph(0), np.zeros((0, 4)), TORCH).shape == (0, 3, 64, 64)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 400), st.integers(1, 400), st.floats(0, 399), st.floats(0, 399), st.sampled_from(MODES))
def test_source_and_target_stay_inside(width: int, height: int, x: float, y: float, mode: CropMode) -> None:
    box = np.array([[min(x, width - 1), min(y, height - 1), width, height]])
    source, target = placements(box, width, height, 227, mode=mode, context_px=16)
    assert 0 <= source[0, 0] < source[0, 2] <= width
    assert 0 <= source[0, 1] < source[0, 3] <= height
    assert 0 <= target[0, 0] <= target[0, 2] <= 227
    assert 0 <= target[0, 1] <= target[0, 3] <= 227


@pytest.mark.parametrize("box", [[5, 5, 5, 9], [5, 9, 8, 7], [0, 0, np.nan, 4], [0, 0, np.inf, 4]])
def test_a_box_without_area_is_named(box: list[float]) -> None:
    with pytest.raises(StageError, match="region 1 has no area or is not finite"):
        warp_regions(photograph(0), np.array([[0, 0, 4, 4], box]), TORCH)


def test_context_that_leaves_no_room() -> None:
    with pytest.raises(StageError, match="use at most 31"):
        warp_regions(photograph(0), np.array([[0, 0, 4, 4]]), TORCH, context_px=32)


def test_out_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="out must be float32"):
        warp_regions(photograph(0), np.array([[0, 0, 4, 4]]), TORCH, out=np.zeros((2, 3, 64, 64), np.float32))


@pytest.mark.parametrize("spec", [CAFFE, TORCH], ids=["caffe", "torch"])
@pytest.mark.parametrize("mode", MODES)
def test_a_crop_of_a_mask_alone_is_that_of_an_image_whose_other_pixels_are_at_the_mean(
    mode: CropMode, spec: InputSpec
) -> None:
    """Section 5's fg: the same crop, every pixel outside the mask at the mean, those of the context too."""
    image = photograph(2)
    boxes = np.array([[30, 20, 70, 80], [0, 0, 7, 50], [100.4, 70.5, 120, 90]], np.float32)
    masks = np.random.default_rng(0).random((3, 9, 12)).repeat(10, axis=1).repeat(10, axis=2) < 0.5

    def draw(row: int, window: tuple[int, int, int, int]) -> NDArray[np.bool_]:
        x1, y1, x2, y2 = window
        return masks[row, y1:y2, x1:x2]

    crops = warp_regions(image, boxes, spec, mode=mode, context_px=4, masks=draw)
    whole = warp_regions(image, boxes, spec, mode=mode, context_px=4)
    for box, crop, mask, full in zip(boxes, crops, masks, whole, strict=True):
        expected = slow_crop(image, box.astype(np.float64), spec, mode, 4, mask=mask)
        np.testing.assert_allclose(crop, expected, rtol=0, atol=1e-4 * spec.value_range / min(spec.std) / 255)
        assert (np.abs(crop - full) > 0.1 * spec.value_range / 255).any()
    everything = warp_regions(image, boxes, spec, mode=mode, context_px=4, masks=lambda _, w: _ones(w))
    assert np.array_equal(everything, whole)


def _ones(window: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    return np.ones((window[3] - window[1], window[2] - window[0]), np.bool_)
