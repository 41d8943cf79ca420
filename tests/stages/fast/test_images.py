"""The resize rule against a slow transcription of the authors', and pixels against OpenCV's resize by one factor."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.boxes.geometry import mirrored_boxes
from stages.fast.images import network_image, scaled_size
from stages.networks.pixels import scaled_image
from stages.networks.spec import InputSpec

SPEC = InputSpec(224, "bgr", 255.0, (104.0, 117.0, 123.0))


def picture(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("sides", "resized"),
    [
        ((500, 375), (800, 600)),
        ((375, 500), (600, 800)),
        ((500, 300), (1000, 600)),  # 1000 is not above the limit
        ((500, 299), (1000, 598)),
        ((2001, 1200), (1000, 600)),  # 1000.5 rounds to 1000, which is not above it either
        ((2003, 1200), (1000, 599)),  # 1001.5 does
        ((2000, 20), (1000, 10)),
        ((20, 2000), (10, 1000)),
        ((1, 1), (600, 600)),
        ((1, 3000), (1, 1000)),  # never no pixel at all
    ],
)
def test_sides_by_hand(sides: tuple[int, int], resized: tuple[int, int]) -> None:
    assert scaled_size(*sides)[:2] == resized


@given(st.integers(2, 3000), st.integers(2, 3000), st.sampled_from([300, 600]), st.sampled_from([500, 1000, None]))
@settings(max_examples=100)
def test_as_the_authors_program(width: int, height: int, short: int, long: int | None) -> None:
    scale = float(short) / float(min(height, width))
    if long is not None and np.round(scale * max(height, width)) > long:
        scale = float(long) / float(max(height, width))
    found = scaled_size(width, height, short, long)
    if min(width, height) * scale > 0.5:
        assert abs(found.width - width * scale) <= 0.5 and abs(found.height - height * scale) <= 0.5
    assert (found.scale_x, found.scale_y) == (found.width / width, found.height / height)
    assert long is None or max(found.width, found.height) <= max(long, short)
    whole = found.scaled(np.array([[0, 0, width, height]]))
    np.testing.assert_allclose(whole, [[0, 0, found.width, found.height]])
    by_one = np.array([width, height]) * scale  # py-faster-rcnn's boxes, never further off than the rounding
    assert (np.abs(whole[0, 2:] - by_one) <= 0.5 + 1e-3).all() or min(width, height) * scale <= 0.5


@given(st.integers(20, 900), st.integers(20, 900), st.integers(0, 10**6))
@settings(max_examples=50)
def test_scaled_and_back_and_mirrored_alike(width: int, height: int, seed: int) -> None:
    boxes = np.random.default_rng(seed).uniform(0, 1, (5, 4)) * [width, height, width, height]
    resized = scaled_size(width, height)
    np.testing.assert_allclose(resized.unscaled(resized.scaled(boxes)), boxes, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(
        resized.scaled(mirrored_boxes(boxes, width)), mirrored_boxes(resized.scaled(boxes), resized.width), atol=2e-3
    )


@pytest.mark.parametrize("sides", [(125, 100), (100, 125), (40, 97), (300, 200)])
def test_pixels_are_those_of_one_factor_and_opencvs_own_rounding(sides: tuple[int, int]) -> None:
    image, resized = picture(*sides), scaled_size(*sides, 150, 250)
    scale = 150 / min(sides) if round(150 / min(sides) * max(sides)) <= 250 else 250 / max(sides)
    mean = image[:, :, ::-1].astype(np.float32) - np.array(SPEC.mean, np.float32)
    expected = cv2.resize(mean, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    found = network_image(image, SPEC, resized)
    assert found.shape == (1, 3, *expected.shape[:2]) == (1, 3, resized.height, resized.width)
    # the factor differs from the sides' quotient by less than half a pixel over the image
    off = max(abs(resized.scale_x / scale - 1), abs(resized.scale_y / scale - 1))
    np.testing.assert_allclose(found[0].transpose(1, 2, 0), expected, atol=1e-3 + 256 * off * max(sides))
    exact = cv2.resize(mean, (resized.width, resized.height), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(found[0].transpose(1, 2, 0), exact)


def test_a_size_of_the_same_sides_is_the_shorter_sides_image() -> None:
    image = picture(90, 60)
    np.testing.assert_array_equal(scaled_image(image, SPEC, (135, 90)), scaled_image(image, SPEC, 90))


def test_the_mirror_image_is_mirrored_before_it_is_resized() -> None:
    image = picture(61, 47)
    resized = scaled_size(61, 47, 90, 200)
    mirrored = network_image(image, SPEC, resized, mirror=True)
    np.testing.assert_array_equal(mirrored, network_image(np.ascontiguousarray(image[:, ::-1]), SPEC, resized))
    np.testing.assert_allclose(mirrored, network_image(image, SPEC, resized)[..., ::-1], atol=1e-2)
    assert not np.array_equal(mirrored, network_image(image, SPEC, resized))
