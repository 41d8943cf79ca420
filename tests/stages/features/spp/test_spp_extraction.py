"""SPP features against a slow direct computation of each region, and bits that depend on nothing but the region."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from network_parts import trunk_of
from numpy.typing import NDArray
from torch.nn import functional

from cache.errors import StageError
from stages.features.spp import conv_pass, extraction
from stages.features.spp.extraction import Spp, SppExtractor
from stages.features.spp.pooling import pool_windows
from stages.features.spp.windows import cell_windows
from stages.networks.forward import deterministic
from stages.networks.network import Network, build
from stages.networks.pixels import scaled_image
from stages.networks.receptive_field import map_geometry
from stages.networks.spec import InputSpec

SPP = Spp((96, 64, 128), (1, 2, 3), 22)
LAYERS = ("pool5", "fc6", "fc7", "fc8")


@pytest.fixture(scope="module")
def network() -> Network:
    return build("small", 6, generator=torch.Generator().manual_seed(0), pyramid=SPP.levels).eval()


@pytest.fixture(autouse=True)
def single() -> Iterator[None]:
    with deterministic():
        yield


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "FC_BATCH", 8)


def picture(seed: int = 0, height: int = 70, width: int = 90) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def random_boxes(n: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 40, (n, 2))
    return np.concatenate([corner, corner + rng.uniform(5, 30, (n, 2))], 1).astype(np.float32)


def slow(
    network: Network,
    image: NDArray[np.uint8],
    box: NDArray[np.float32],
    spp: Spp,
    pool: Callable[[torch.Tensor, int], torch.Tensor] = functional.adaptive_max_pool2d,
) -> tuple[int, dict[str, NDArray[np.float32]]]:
    """One region: resize, convolve, crop the map, pool, multiply."""
    side = min(image.shape[:2])
    area = float((box[2] - box[0]) * (box[3] - box[1]))
    wanted = math.floor(spp.target_side_px * side / math.sqrt(area) + 0.5)
    scale = min(sorted(spp.scales_px), key=lambda s: abs(s - wanted))
    shape = tuple(math.floor(s * scale / side + 0.5) for s in (image.shape[1], image.shape[0]))
    ready = (image.astype(np.float32) / 255 - 0.5) / 0.25
    pixels = cv2.resize(ready, shape, interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1)[None]
    trunk = trunk_of(network)
    with torch.no_grad():
        fmap = trunk.features[:12](torch.from_numpy(pixels))
        y1, x1, y2, x2 = cell_windows(box[None], side, scale, map_geometry(network), fmap.shape[2:])[0]
        pooled = torch.cat([pool(fmap[:, :, y1:y2, x1:x2], n).flatten(1) for n in spp.levels], 1)
        out = {"pool5": pooled[0]}
        for layer, end in (("fc6", 3), ("fc7", 6), ("fc8", 7)):
            out[layer] = trunk.classifier[:end](pooled)[0]
    return scale, {layer: values.numpy() for layer, values in out.items()}


def test_equals_a_direct_computation_of_each_region(network: Network) -> None:
    image, boxes = picture(), random_boxes(30)
    found = SppExtractor(network, LAYERS, SPP)(image, boxes)
    scales = set()
    for i, box in enumerate(boxes):
        scale, expected = slow(network, image, box, SPP)
        scales.add(scale)
        for layer in LAYERS:
            assert found[layer].dtype == np.float32
            np.testing.assert_allclose(found[layer][i], expected[layer], rtol=1e-4, atol=1e-4)
    assert scales == {64, 96, 128}


def test_averages_equal_a_direct_computation_of_each_region(network: Network) -> None:
    image, boxes = picture(), random_boxes(12)
    found = SppExtractor(network, ["pool5"], replace(SPP, pooling="average"))(image, boxes)["pool5"]
    for row, box in zip(found, boxes, strict=True):
        _, expected = slow(network, image, box, SPP, functional.adaptive_avg_pool2d)
        np.testing.assert_allclose(row, expected["pool5"], rtol=1e-4, atol=1e-4)


def test_the_input_convention_is_the_networks() -> None:
    image = picture(3, 20, 30)
    spec = InputSpec(64, "bgr", 255.0, (1.0, 2.0, 3.0), (1.0, 1.0, 2.0))
    ready = scaled_image(image, spec, 20)
    assert ready.shape == (1, 3, 20, 30)
    expected = (image[..., ::-1].astype(np.float32) - [1, 2, 3]) / [1, 1, 2]
    np.testing.assert_allclose(ready[0].transpose(1, 2, 0), expected, rtol=1e-6)
    assert scaled_image(picture(3, 333, 500), spec, 688).shape == (1, 3, 688, 1033)


def test_bfloat16_is_close(network: Network) -> None:
    image, boxes = picture(), random_boxes(9)
    exact, rough = (SppExtractor(network, ["fc7"], SPP, dtype=t)(image, boxes)["fc7"] for t in ("float32", "bfloat16"))
    assert rough.dtype == np.float32
    assert not np.array_equal(exact, rough)
    assert np.linalg.norm(exact - rough) < 0.03 * np.linalg.norm(exact)
    assert next(network.parameters()).dtype == torch.float32  # the caller's network is left as it is


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_neighbours_do_not_change_bits(network: Network, dtype: str) -> None:
    image, boxes = picture(), random_boxes(30)
    extract = SppExtractor(network, LAYERS, SPP, dtype=dtype)
    together = extract(image, boxes)
    for part in (slice(0, 1), slice(3, 19), slice(7, None), slice(None, None, -1)):
        fewer = extract(image, boxes[part])
        assert all(fewer[layer].tobytes() == together[layer][part].tobytes() for layer in LAYERS)


def test_regions_with_the_same_cells_are_computed_once(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    pooled: list[int] = []

    def noting(fmap: NDArray[Any], windows: NDArray[Any], *rest: Any) -> None:
        pooled.append(len(windows))
        pool_windows(fmap, windows, *rest)

    monkeypatch.setattr(extraction, "pool_windows", noting)
    image, boxes = picture(), np.repeat(random_boxes(3), 4, axis=0)
    boxes[1] += 1e-3
    found = SppExtractor(network, ["fc6"], SPP)(image, boxes)["fc6"]
    assert sum(pooled) == 3
    assert (found.reshape(3, 4, -1) == found[::4, None]).all()


def test_only_the_scales_that_a_region_wants_are_computed(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def noting(image: NDArray[np.uint8], spec: InputSpec, scale_px: int) -> NDArray[np.float32]:
        asked.append(scale_px)
        return scaled_image(image, spec, scale_px)

    monkeypatch.setattr(conv_pass, "scaled_image", noting)
    image = picture()
    extract = SppExtractor(network, ["pool5"], SPP)
    extract(image, np.array([[0, 0, 60, 60], [1, 1, 50, 60]], np.float32))
    assert asked == [64]
    extract(image, np.array([[0, 0, 12, 12], [1, 1, 60, 60]], np.float32))
    assert asked == [64, 64, 128]


def test_any_number_of_threads_gives_the_same_bytes(network: Network) -> None:
    images = [picture(seed, 60 + seed) for seed in range(6)]
    boxes = [random_boxes(n, n) for n in (1, 5, 19, 0, 13, 4)]
    extract = SppExtractor(network, LAYERS, SPP)
    alone = [extract(i, b) for i, b in zip(images, boxes, strict=True)]
    for workers in (1, 3):
        with ThreadPoolExecutor(workers) as pool:
            found = list(pool.map(extract, images, boxes))
        for a, b in zip(alone, found, strict=True):
            assert all(a[layer].tobytes() == b[layer].tobytes() for layer in a)


def test_no_regions(network: Network) -> None:
    found = SppExtractor(network, ["pool5", "fc6"], SPP)(picture(), np.zeros((0, 4), np.float32))
    assert {layer: values.shape for layer, values in found.items()} == {"pool5": (0, 64 * 14), "fc6": (0, 512)}


def test_bad_regions_and_bad_weights_are_named(network: Network) -> None:
    with pytest.raises(StageError, match="region 1 has no area"):
        SppExtractor(network, ["pool5"], SPP)(picture(), np.array([[0, 0, 9, 9], [5, 5, 5, 9]], np.float32))
    broken = build("small", 6).eval()
    trunk_of(broken).features[0].weight.data[:] = torch.nan
    # torch's ReLU and pooling keep what is not a number; a maximum that starts at 0 would hide it
    with pytest.raises(StageError, match=r"the feature map at 64 px is not a number.*network\.input"):
        SppExtractor(broken, ["pool5"], SPP)(picture(), np.array([[0, 0, 60, 60]], np.float32))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_the_cpu_and_with_itself(network: Network) -> None:
    image, boxes = picture(), random_boxes(30)
    cpu = SppExtractor(network, LAYERS, SPP)(image, boxes)
    extract = SppExtractor(network, LAYERS, SPP, device="cuda")
    first = extract(image, boxes)
    for layer in LAYERS:
        np.testing.assert_allclose(first[layer], cpu[layer], rtol=1e-3, atol=1e-3)
    with ThreadPoolExecutor(3) as pool:
        for again in pool.map(lambda _: extract(image, boxes), range(6)):
            assert all(again[layer].tobytes() == first[layer].tobytes() for layer in LAYERS)
