"""Extraction against a direct forward pass of one crop, and bits that depend on nothing but the region."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch
from network_parts import trunk_of
from numpy.typing import NDArray

from cache.errors import StageError
from stages.features.crops import Crop, Extractor, extractor
from stages.features.warp import warp_regions
from stages.networks.network import Network, build
from stages.networks.settings import NetworkSettings

CROP = Crop("warp", 8)


@pytest.fixture(scope="module")
def network() -> Network:
    return build("small", 6, generator=torch.Generator().manual_seed(0)).eval()


def picture(seed: int = 0, height: int = 70, width: int = 90) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def random_boxes(n: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 40, (n, 2))
    return np.concatenate([corner, corner + rng.uniform(5, 30, (n, 2))], 1).astype(np.float32)


def test_equals_a_direct_forward_pass_of_each_crop(network: Network) -> None:
    image, boxes = picture(), random_boxes(7)
    found = Extractor(network, ["pool5", "fc7", "fc8"], CROP, batch=4)(image, boxes)
    for i in range(7):
        crop = torch.from_numpy(warp_regions(image, boxes[i : i + 1], network.input, context_px=8))
        with torch.no_grad():
            pool5 = trunk_of(network).features(crop)
            fc7 = trunk_of(network).classifier[:6](pool5.flatten(1))
            logits = network(crop)
        for layer, expected in (("pool5", pool5.flatten(1)), ("fc7", fc7), ("fc8", logits)):
            assert found[layer].dtype == np.float32
            np.testing.assert_allclose(found[layer][i], expected[0], rtol=1e-4, atol=1e-5)


def test_bfloat16_is_close(network: Network) -> None:
    image, boxes = picture(), random_boxes(5)
    exact = Extractor(network, ["fc7"], CROP, batch=4)(image, boxes)["fc7"]
    rough = Extractor(network, ["fc7"], CROP, batch=4, dtype="bfloat16")(image, boxes)["fc7"]
    assert rough.dtype == np.float32
    assert not np.array_equal(exact, rough)
    assert np.linalg.norm(exact - rough) < 0.03 * np.linalg.norm(exact)
    assert next(network.parameters()).dtype == torch.float32  # the caller's network is left as it is


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_padding_and_neighbours_do_not_change_bits(network: Network, dtype: str) -> None:
    """A region has the same bits whether the batch is full, or padded, or filled with other regions."""
    image, boxes = picture(), random_boxes(10)
    extract = Extractor(network, ["pool5", "fc7"], CROP, batch=4, dtype=dtype)
    together = extract(image, boxes)
    for n in (1, 3, 4, 6, 9):
        fewer = extract(image, boxes[:n])
        assert all(fewer[layer].tobytes() == together[layer][:n].tobytes() for layer in together)
    other = boxes.copy()
    other[1:] = random_boxes(9, seed=5)
    assert extract(image, other)["fc7"][0].tobytes() == together["fc7"][0].tobytes()


def test_any_number_of_threads_gives_the_same_bytes(network: Network) -> None:
    images = [picture(seed) for seed in range(6)]
    boxes = [random_boxes(n, n) for n in (1, 5, 9, 0, 13, 4)]
    extract = Extractor(network, ["fc6", "pool5"], CROP, batch=4)
    alone = [extract(i, b) for i, b in zip(images, boxes, strict=True)]
    for workers in (1, 3):
        with ThreadPoolExecutor(workers) as pool:
            found = list(pool.map(extract, images, boxes))
        for a, b in zip(alone, found, strict=True):
            assert all(a[layer].tobytes() == b[layer].tobytes() for layer in a)


def test_threads_that_compute_with_two_give_the_same_bytes_and_keep_their_two(network: Network) -> None:
    extract, image, boxes = Extractor(network, ["fc6"], CROP, batch=4), picture(), random_boxes(2)
    seen = []
    extract._forward._graph.register_forward_hook(
        lambda *_: seen.append((torch.get_num_threads(), cv2.getNumThreads()))
    )

    def work() -> tuple[bytes, int]:
        torch.set_num_threads(2)
        found = extract(image, boxes)["fc6"]
        return found.tobytes(), torch.get_num_threads()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() == (extract(image, boxes)["fc6"].tobytes(), 2)
    assert seen == [(1, 1)] * 2


def test_no_regions(network: Network) -> None:
    found = Extractor(network, ["pool5", "fc6"], CROP, batch=4)(picture(), np.zeros((0, 4), np.float32))
    assert {layer: values.shape for layer, values in found.items()} == {"pool5": (0, 1024), "fc6": (0, 512)}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_asking_for_a_device_that_is_not_there(network: Network) -> None:
    with pytest.raises(StageError, match=r"execution.device: cuda, but torch finds no CUDA device"):
        extractor(network, ["fc6"], CROP, NetworkSettings(), "cuda")
    assert extractor(network, ["fc6"], CROP, NetworkSettings(batch=4), "auto").dims == {"fc6": 512}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_the_cpu_and_with_itself(network: Network) -> None:
    image, boxes = picture(), random_boxes(9)
    cpu = Extractor(network, ["fc7"], CROP, batch=4)(image, boxes)["fc7"]
    extract = Extractor(network, ["fc7"], CROP, batch=4, device="cuda")
    first = extract(image, boxes)["fc7"]
    np.testing.assert_allclose(first, cpu, rtol=1e-3, atol=1e-4)
    with ThreadPoolExecutor(3) as pool:
        for again in pool.map(lambda _: extract(image, boxes)["fc7"], range(6)):
            assert again.tobytes() == first.tobytes()


def test_context_is_checked_before_any_image(network: Network) -> None:
    with pytest.raises(StageError, match="use at most 31"):
        Extractor(network, ["fc6"], Crop("warp", 40), batch=4)
