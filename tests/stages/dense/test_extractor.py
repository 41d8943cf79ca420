"""Dense features: each window against the network's own layers of its crop, its place in the image, and what is not."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from bare_network import SIDE, STRIDE, bare_network, both_flips, draw_weights, picture
from network_parts import trunk_of
from torch import nn

from cache.errors import StageError
from stages.dense.extractor import DenseExtractor
from stages.dense.scales import MOST_PX
from stages.networks.architectures import ARCHITECTURES
from stages.networks.network import Network, build
from stages.networks.spec import InputSpec

LENGTHS = {"pool5": 20, "fc6": 8, "fc7": 7, "fc8": 3}  # of the network of helpers/bare_network.py


@pytest.mark.parametrize("layer", LENGTHS)
def test_each_window_is_the_networks_own_layer_of_its_crop(layer: str) -> None:
    network, image = bare_network(), picture(69, 93)  # 61 + 8 m, so nothing is resized
    found = DenseExtractor(network, layer)(image)
    assert found.features.shape == (4, 10, LENGTHS[layer]) and found.features.dtype == np.float32
    assert found.scaled_px == (93, 69)
    pixels = both_flips(image, network.input)[0]
    for y, x in np.ndindex(4, 10):
        left, top, right, bottom = found.boxes[y, x].tolist()
        assert (left, top, right, bottom) == (STRIDE * x, STRIDE * y, STRIDE * x + SIDE, STRIDE * y + SIDE)
        with torch.no_grad():
            own = network.extract(pixels[None, :, int(top) : int(bottom), int(left) : int(right)], [layer])[layer]
        np.testing.assert_allclose(found.features[y, x], own[0].numpy(), rtol=1e-4, atol=1e-6)
    assert found.features.std(axis=(0, 1)).max() > 0.05  # windows differ, or this shows nothing


@pytest.mark.parametrize("layer", ["fc6", "fc7"])
def test_before_the_relu_are_the_layers_own_sums(layer: str) -> None:
    """Rectified they are the layer; unrectified they are what its matrix makes of the layer before it."""
    network, image = bare_network(), picture(69, 77)
    after = DenseExtractor(network, layer)(image).features
    before = DenseExtractor(network, layer, before_relu=True)(image).features
    assert (before < 0).any() and (before > 0).any()
    np.testing.assert_array_equal(np.maximum(before, 0), after)
    below = DenseExtractor(network, {"fc6": "pool5", "fc7": "fc6"}[layer])(image).features
    linear = trunk_of(network).classifier[{"fc6": 1, "fc7": 4}[layer]]
    expected = below @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()
    np.testing.assert_allclose(before, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name, one in ARCHITECTURES.items() if one.fc6 is not None])
def test_every_networks_fc6_and_fc7_have_a_before(name: str) -> None:
    network = build(name, 3, device="meta").eval()
    for layer in ("fc6", "fc7"):
        before = network.trunk.get_submodule(network.before_relu(layer))
        after = network.trunk.get_submodule(network.node(layer))
        order = [module for module in network.trunk.modules() if isinstance(module, nn.Linear | nn.ReLU)]
        assert isinstance(before, nn.Linear) and order[order.index(before) + 1] is after


def test_a_new_heads_fc7_has_a_before_and_layers_without_a_relu_are_refused() -> None:
    network = build("resnet50", 3, pyramid=[7], fc=[8, 6], spec=InputSpec(224), device="meta").eval()
    before = network.trunk.get_submodule(network.before_relu("fc7"))
    assert isinstance(before, nn.Linear) and before.out_features == 6
    for layer in ("fc8", "pool5"):
        with pytest.raises(StageError, match=rf"^layer {layer} of network small does not .* are fc6 and fc7$"):
            DenseExtractor(build("small", 3), layer, before_relu=True)
    with pytest.raises(StageError, match=r"nothing before it$"):
        build("squeezenet1_0", 3, device="meta").before_relu("fc8")


def test_coarse_windows_are_every_p_th_of_the_fine_ones() -> None:
    image = picture(100, 131)
    fine, coarse = (DenseExtractor(bare_network(), "fc7", coarse=coarse)(image) for coarse in (False, True))
    assert fine.features.shape[:2] == (12, 20) and coarse.features.shape[:2] == (6, 10)
    np.testing.assert_allclose(coarse.features, fine.features[::2, ::2], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(coarse.boxes, fine.boxes[::2, ::2])


@pytest.mark.parametrize(
    ("shape", "scale_px", "scaled"),
    [
        ((100, 131), None, (133, 101)),  # each side to the nearest 61 + 8 m
        ((100, 131), 66, (85, 69)),
        ((40, 80), None, (117, 61)),  # a window at least, and the aspect ratio that the image has: 57 x 114
        ((60, 60), None, (61, 61)),
    ],
)
def test_windows_reach_from_edge_to_edge_of_the_image(
    shape: tuple[int, int], scale_px: int | None, scaled: tuple[int, int]
) -> None:
    network, image = bare_network(), picture(*shape)
    extractor = DenseExtractor(network, "fc7", scale_px=scale_px)
    found = extractor(image)
    assert found.scaled_px == scaled == extractor.scaled(*shape[::-1])
    height, width = shape
    assert found.boxes[0, 0, :2].tolist() == [0, 0]
    np.testing.assert_allclose(found.boxes[-1, -1, 2:], [width, height], rtol=1e-6)
    sides = found.boxes[..., 2:] - found.boxes[..., :2]
    np.testing.assert_allclose(sides[..., 0], SIDE * width / scaled[0], rtol=1e-5)
    np.testing.assert_allclose(sides[..., 1], SIDE * height / scaled[1], rtol=1e-5)
    resized = cv2.resize(image.astype(np.float32), scaled, interpolation=cv2.INTER_LINEAR)
    crop = torch.from_numpy((resized[-SIDE:, -SIDE:] / 255 - 0.5) / 0.25).permute(2, 0, 1)[None]
    with torch.no_grad():
        own = network.extract(crop, ["fc7"])["fc7"][0].numpy()
    np.testing.assert_allclose(found.features[-1, -1], own, rtol=1e-3, atol=1e-5)


def infinite() -> Network:
    network = bare_network()
    with torch.no_grad():
        trunk_of(network).classifier[1].weight.fill_(torch.inf)
    return network


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: DenseExtractor(build("squeezenet1_0", 3), "fc7"), r"no fully connected layer that takes pool5"),
        (lambda: DenseExtractor(bare_network(), "fc9"), r"no layer 'fc9'"),
        (lambda: DenseExtractor(infinite(), "fc7")(picture(69, 69)), r"^fc7 is not finite"),
        (lambda: DenseExtractor(bare_network(), "fc7")(picture(20, 30_000)), rf"more than {MOST_PX:,} pixels"),
    ],
)
def test_what_cannot_be_is_one_line(make: Callable[[], object], said: str) -> None:
    with pytest.raises(StageError, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_the_memory_told_holds_the_maps_and_the_windows() -> None:
    network = build("small", 3).eval()
    draw_weights(network)
    extractor = DenseExtractor(network, "fc7")
    found = extractor(picture(300, 420))
    width, height = found.scaled_px
    first_map = (width // 2) * (height // 2) * 32 * 4
    assert extractor.bytes_needed(420, 300) > 2 * first_map + found.features.nbytes
    assert extractor.length == found.features.shape[2] == 512
