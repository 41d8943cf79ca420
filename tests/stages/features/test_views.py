"""Views of a picture against crops made by hand, and what they are computed to against the bare network."""

import cv2
import numpy as np
import pytest
import torch
from network_parts import trunk_of
from PIL import Image

from cache.errors import StageError
from stages.features.views import ViewNetwork, check_views, view_batches
from stages.networks.network import build
from stages.networks.spec import InputSpec

SPEC = InputSpec(20, "bgr", 255.0, (10.0, 20.0, 30.0), (2.0, 4.0, 5.0))
ALL = range(12)


def picture(height: int = 41, width: int = 67) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def by_hand(image: np.ndarray, short_side: int) -> np.ndarray:
    """The resized picture as the network takes it, [h, w, 3], one step after the other."""
    height, width = image.shape[:2]
    scale = short_side / min(height, width)
    bgr = image[:, :, ::-1].astype(np.float32)
    mean, std = np.array([10, 20, 30], np.float32), np.array([2, 4, 5], np.float32)
    ready = np.divide(bgr - mean, std, dtype=np.float32)
    resized: np.ndarray = cv2.resize(
        ready, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_LINEAR
    )
    return resized


@pytest.mark.parametrize("shape", [(41, 67), (67, 41), (30, 30)])
def test_views_are_the_crops_one_would_cut(shape: tuple[int, int]) -> None:
    image = picture(*shape)
    crops, full = (batch.transpose(0, 2, 3, 1) for batch in view_batches(image, SPEC, 25, ALL))
    scaled = by_hand(image, 25)
    h, w = scaled.shape[:2]
    assert min(h, w) == 25
    expected = [
        scaled[:20, :20],
        scaled[:20, -20:],
        scaled[-20:, :20],
        scaled[-20:, -20:],
        scaled[(h - 20) // 2 : (h - 20) // 2 + 20, (w - 20) // 2 : (w - 20) // 2 + 20],
    ]
    assert crops.shape == (10, 20, 20, 3)
    for i, cut in enumerate(expected):
        np.testing.assert_allclose(crops[i], cut, atol=1e-3)
        np.testing.assert_allclose(crops[i + 5], np.fliplr(cut), atol=1e-3)
    np.testing.assert_allclose(full[0], scaled, atol=1e-3)
    np.testing.assert_allclose(full[1], np.fliplr(scaled), atol=1e-3)


def test_only_the_views_asked_for_are_made() -> None:
    image = picture()
    crops, full = view_batches(image, SPEC, 25, ALL)
    [some] = view_batches(image, SPEC, 25, [2, 4, 9])
    np.testing.assert_array_equal(some, crops[[2, 4, 9]])
    [mirrored] = view_batches(image, SPEC, 25, [11])
    np.testing.assert_array_equal(mirrored, full[[1]])


def test_layers_of_all_views_are_the_bare_networks() -> None:
    torch.set_num_threads(1)
    network = build("small", 4, pyramid=(3, 1), generator=torch.Generator().manual_seed(0)).eval()
    image = picture()
    found = ViewNetwork(network, ("fc8", "fc7", "pool5"), 70, [0, 4, 9, 10, 11])(image)
    ready = np.asarray(Image.fromarray(image), np.float32) / 255
    ready = (ready - 0.5) / 0.25
    scaled = cv2.resize(ready, (round(67 * 70 / 41), 70), interpolation=cv2.INTER_LINEAR)
    h, w = scaled.shape[:2]
    y, x = (h - 64) // 2, (w - 64) // 2
    centre = scaled[y : y + 64, x : x + 64]
    views = [scaled[:64, :64], centre, np.fliplr(centre), scaled, np.fliplr(scaled)]
    with torch.no_grad():
        for i, view in enumerate(views):
            inputs = torch.from_numpy(np.ascontiguousarray(view.transpose(2, 0, 1)))[None]
            np.testing.assert_allclose(found["fc8"][i], network.trunk(inputs)[0].numpy(), atol=2e-4)
            fmap = trunk_of(network).features(inputs)
            np.testing.assert_allclose(found["pool5"][i], fmap[0].numpy(), atol=2e-4)
    assert found["fc7"].shape == (5, 512) and found["pool5"].shape == (5, 64 * 10)


def test_what_cannot_be_viewed_is_said() -> None:
    plain, pyramid = build("small", 2), build("small", 2, pyramid=(1,))
    with pytest.raises(StageError, match=r"classify\.short_side_px: 60 is less than the 64 px of small's crops"):
        check_views(plain, 60, [0], "classify")
    check_views(pyramid, 60, [10, 11], "classify")
    with pytest.raises(StageError, match="classify: full pictures have many sizes, and small without a pyramid"):
        check_views(plain, 70, [0, 10], "classify")
    deep = build("alexnet", 2, pyramid=(1,)).eval()
    with pytest.raises(
        StageError, match=r"classify_svm\.short_side_px: alexnet cannot take pictures of 16 px \(.*; raise it, 224 px"
    ):
        check_views(deep, 16, [10], "classify_svm")
    check_views(deep, 63, [10], "classify_svm")


def test_a_network_that_gives_no_numbers_is_named() -> None:
    network = build("small", 2)
    with torch.no_grad():
        trunk_of(network).classifier[-1].bias[0] = float("nan")
    with pytest.raises(StageError, match="fc8 is not finite"):
        ViewNetwork(network, ("fc8",), 70, [4])(picture())
