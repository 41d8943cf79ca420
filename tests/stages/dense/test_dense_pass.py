"""The dense pass: each window against the network's own pass of its crop, without padding and with a margin."""

from itertools import product

import cv2
import numpy as np
import pytest
import torch
from bare_network import SIDE, STRIDE, bare_network, both_flips, draw_weights, picture
from network_parts import trunk_of
from torch import nn

from cache.errors import StageError
from stages.dense import dense_pass
from stages.dense.dense_pass import DensePass
from stages.networks.network import build
from stages.networks.receptive_field import map_geometry
from stages.networks.spec import InputSpec


def test_without_padding_each_window_is_its_bare_crop() -> None:
    network = bare_network()
    image = picture(69, 93)  # 61 + 8 m, so nothing is resized
    found = DensePass(network)(image, 69)
    assert found.shape == (2, 4, 10, 3)
    pixels = both_flips(image, network.input)
    for flip, y, x in np.ndindex(2, 4, 10):
        crop = pixels[flip, :, STRIDE * y : STRIDE * y + SIDE, STRIDE * x : STRIDE * x + SIDE]
        with torch.no_grad():
            own = network(crop[None])[0].numpy()
        np.testing.assert_allclose(found[flip, y, x], own, rtol=1e-4, atol=1e-6)
    assert found.std(axis=(0, 1, 2)).min() > 0.05  # windows differ, or this shows nothing


@pytest.mark.parametrize(("name", "shape"), [("small", (168, 200)), ("caffenet", (435, 339))])
def test_with_padding_each_window_is_its_crop_with_a_margin(name: str, shape: tuple[int, int]) -> None:
    network = build(name, 4).eval()
    draw_weights(network)
    trunk = trunk_of(network)
    image = picture(*shape)
    dense = DensePass(network)
    found, windows = dense(image, min(shape)), dense.windows
    side, stride, padding = windows.side_px, windows.stride_px, windows.pooling.padding
    assert found.shape[1:3] == tuple((length - side) // stride + 1 for length in shape)
    axis = map_geometry(network).y
    margin = stride * (-(axis.first // stride) + padding + 1)
    convolutions = trunk.features[: 12 if name == "small" else 14]
    pool = nn.MaxPool2d(windows.pooling.kernel, windows.pooling.stride)
    pixels, bare = both_flips(image, network.input), []
    last_y, last_x = found.shape[1] - 1, found.shape[2] - 1
    for flip, y, x in product((0, 1), {1, last_y // 2, last_y}, {1, last_x // 2 + 1, last_x}):
        top, left = max(stride * y - margin, 0), max(stride * x - margin, 0)
        around = pixels[flip, :, top : stride * y + side + margin, left : stride * x + side + margin]
        row, column = y - top // stride - padding, x - left // stride - padding
        cells = windows.cells + padding
        with torch.no_grad():
            fmap = convolutions(around[None])[:, :, row : row + cells, column : column + cells]
            own = trunk.classifier(pool(fmap).flatten(1))[0].numpy()
            crop = pixels[flip, :, stride * y : stride * y + side, stride * x : stride * x + side]
            bare.append(np.abs(network(crop[None])[0].numpy() - own).max())
        np.testing.assert_allclose(found[flip, y, x], own, rtol=1e-3, atol=1e-4 * np.abs(own).max())
    assert max(bare) > 0.05 * np.abs(found).max()  # which the bare crop's is not


def test_a_new_head_behind_a_pyramid_of_one_level() -> None:
    """SqueezeNet, whose map of a crop of 211 px has 12 x 12 cells: a window's are pooled to 4 x 4, and normalised."""
    spec = InputSpec(211, "rgb", 1.0, (0.5,) * 3, (0.25,) * 3)
    network = build("squeezenet1_0", 4, pyramid=[4], fc=[16, 8], spec=spec).eval()
    draw_weights(network)
    trunk, image = trunk_of(network), picture(243, 291)  # 243 + 48 m
    found = DensePass(network)(image, 243)
    assert found.shape == (2, 3, 6, 4)
    with torch.no_grad():
        fmap = trunk.features[:13](both_flips(image, spec))
        for y, x in np.ndindex(3, 6):
            own = trunk.classifier(trunk.features[13](fmap[:, :, y : y + 12, x : x + 12])).numpy()
            np.testing.assert_allclose(found[:, y, x], own, rtol=1e-3, atol=1e-4 * np.abs(own).max())
    assert found.std(axis=(0, 1, 2)).min() > 1e-3 * np.abs(found).max()


def test_a_window_sees_its_pixels_and_no_others() -> None:
    network = bare_network(mean=0.0)
    with torch.no_grad():
        for weights in network.parameters():
            weights.abs_()  # of a black image all is 0, and a pixel makes every value that sees it positive
    dense, black = DensePass(network), np.zeros((69, 77, 3), np.uint8)
    before = dense(black, 69)
    for y, x in ((0, 0), (3, 4), (4, 3), (34, 50), (56, 60), (57, 59), (68, 76)):
        image = black.copy()
        image[y, x] = 255
        changed = (dense(image, 69) != before).any(axis=-1)
        expected = [
            [STRIDE * row <= y < STRIDE * row + SIDE and STRIDE * column <= x < STRIDE * column + SIDE]
            for row, column in np.ndindex(4, 6)
        ]
        np.testing.assert_array_equal(changed[0], np.reshape(expected, (4, 6)), err_msg=f"pixel {y}, {x}")
        mirrored = dense(np.ascontiguousarray(image[:, ::-1]), 69)
        np.testing.assert_array_equal(changed[1], (mirrored[0] != before[0]).any(axis=-1))


def test_both_sides_are_resized_to_whole_offsets() -> None:
    network = bare_network()
    image = picture(100, 131)
    resized = cv2.resize(image.astype(np.float32), (85, 69), interpolation=cv2.INTER_LINEAR)  # 131 * 66 / 100 = 86.5
    dense = DensePass(network)
    assert dense(image, 66).shape == (2, 4, 8, 3)
    crop = torch.from_numpy((resized[8:65, 12:69] / 255 - 0.5) / 0.25).permute(2, 0, 1)[None]
    with torch.no_grad():
        own = network(crop)[0].numpy()
    np.testing.assert_allclose(dense(image, 66)[0, 2, 3], own, rtol=1e-3, atol=1e-5)


def test_batches_change_nothing_but_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    dense, image = DensePass(bare_network()), picture(93, 101)
    whole = dense(image, 93)  # 2 * 10 * 12 windows
    monkeypatch.setattr(dense_pass, "FC_BATCH", 7)
    np.testing.assert_allclose(dense(image, 93), whole, rtol=1e-5, atol=1e-6)


def test_values_that_are_no_numbers_are_refused() -> None:
    network = bare_network()
    with torch.no_grad():
        trunk_of(network).classifier[1].weight.fill_(torch.inf)
    with pytest.raises(StageError, match=r"fc8 is not finite; network\.weights or network\.input are wrong"):
        DensePass(network)(picture(69, 69), 69)


def test_bfloat16_is_near() -> None:
    network, image = bare_network(), picture(69, 77)
    exact, near = DensePass(network)(image, 69), DensePass(network, dtype="bfloat16")(image, 69)
    assert near.dtype == np.float32 and (near != exact).any()
    np.testing.assert_allclose(near, exact, atol=0.1 * np.abs(exact).max())
