"""Box coding against torchvision's coder, by hand, and as a round trip."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_arrays import as_boxes
from torchvision.models.detection._utils import BoxCoder

from stages.boxes.coding import MAX_LOG_SCALE, decode, encode


def random_boxes(seed: int, n: int = 50) -> np.ndarray:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 400, (n, 2))
    return np.concatenate([corner, corner + rng.uniform(1, 300, (n, 2))], axis=1).astype(np.float32)


def test_by_hand() -> None:
    t = encode(as_boxes([[10, 20, 30, 60]]), as_boxes([[20, 20, 60, 60]]))
    np.testing.assert_allclose(t, [[(40 - 20) / 20, 0, np.log(2), 0]])


def test_as_torchvision() -> None:
    coder = BoxCoder(weights=(1.0, 1.0, 1.0, 1.0))
    boxes, targets = random_boxes(0), random_boxes(1)
    expected = coder.encode_single(torch.from_numpy(targets), torch.from_numpy(boxes)).numpy()
    np.testing.assert_allclose(encode(boxes, targets), expected, rtol=1e-4, atol=1e-5)
    t = np.random.default_rng(2).normal(0, 3, (50, 4)).astype(np.float32)
    assert (t[:, 2:] > MAX_LOG_SCALE).any()  # the bound is compared too
    expected = coder.decode_single(torch.from_numpy(t), torch.from_numpy(boxes)).numpy()
    np.testing.assert_allclose(decode(boxes, t), expected, rtol=1e-4, atol=1e-2)


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=30)
def test_decode_undoes_encode(seed: int) -> None:
    boxes, targets = random_boxes(seed, 8), random_boxes(seed + 1, 8)
    t = encode(boxes, targets)
    if t[:, 2:].max() < MAX_LOG_SCALE:
        np.testing.assert_allclose(decode(boxes, t), targets, atol=2e-3)


def test_zero_transform_stays_put_even_for_one_pixel() -> None:
    boxes = np.array([[5, 5, 6, 6], [0, 0, 100, 50]], np.float32)
    np.testing.assert_array_equal(decode(boxes, np.zeros((2, 4))), boxes)
    np.testing.assert_array_equal(encode(boxes, boxes), np.zeros((2, 4)))


def test_boxes_without_area_are_refused() -> None:
    with pytest.raises(ValueError, match="positive width"):
        encode(as_boxes([[0, 0, 0, 5]]), as_boxes([[0, 0, 5, 5]]))
