"""Pictures of crops: what the network sees, back as pixels, and laid out as in the paper's figures."""

import numpy as np
import pytest
from numpy.typing import NDArray

from cache.errors import StageError
from stages.features.crop_sheets import as_seen, transformations, windows
from stages.features.warp import warp_regions
from stages.networks.spec import InputSpec

SPECS = [
    InputSpec(32, "bgr", 255.0, (104.0, 117.0, 123.0)),
    InputSpec(32, "rgb", 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
]


def noise(height: int = 60, width: int = 80) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("spec", SPECS)
def test_what_the_network_sees_of_a_region_of_its_own_size_is_its_pixels(spec: InputSpec) -> None:
    image, boxes = noise(), np.array([[10, 20, 42, 52], [48, 28, 80, 60]], np.float32)
    seen = as_seen(warp_regions(image, boxes, spec, context_px=0), spec)
    assert np.array_equal(seen, [image[20:52, 10:42], image[28:60, 48:80]])


def test_missing_pixels_are_seen_as_the_mean() -> None:
    seen = as_seen(np.zeros((1, 3, 2, 2), np.float32), SPECS[0])
    assert (seen == [123, 117, 104]).all()  # RGB


def test_figure_7_has_a_row_for_each_context_and_the_four_columns() -> None:
    image, spec = noise(), SPECS[0]
    boxes = np.array([[20, 20, 30, 40], [0, 0, 64, 60]], np.float32)
    sheet = transformations(image, boxes, spec, contexts_px=(0, 4), padding="mean")
    step = 32 + 4
    assert sheet.shape == (4 * step + 4, 4 * step + 4, 3)
    squares = [[sheet[4 + i * step :, 4 + j * step :][:32, :32] for j in range(4)] for i in range(4)]
    assert np.array_equal(squares[0][0][6:26, 11:21], image[20:40, 20:30])  # 10 x 20 px, in the middle of 32 x 32
    assert (squares[0][0][:6] == 255).all()
    for i, (box, context) in enumerate([(0, 0), (0, 4), (1, 0), (1, 4)]):
        for j, mode in enumerate(("square", "square_no_context", "warp"), start=1):
            crop = warp_regions(image, boxes[box : box + 1], spec, mode=mode, context_px=context)  # type: ignore[arg-type]
            assert np.array_equal(squares[i][j], as_seen(crop, spec)[0])
    assert np.array_equal(squares[0][0], squares[1][0])
    assert (squares[2][0][:1] == 255).all() and (squares[2][0][1:31] != 255).any(
        axis=(1, 2)
    ).all()  # 64 x 60 -> 32 x 30
    assert (sheet[:4] == 255).all() and (sheet[:, -4:] == 255).all()


def test_figure_2_fills_rows_from_the_left() -> None:
    image, boxes = noise(), np.array([[i, i, i + 20, i + 30] for i in range(5)], np.float32)
    sheet = windows(image, boxes, SPECS[1], mode="square", context_px=2, padding="replicate", columns=3)
    assert sheet.shape == (2 * 36 + 4, 3 * 36 + 4, 3)
    crop = warp_regions(image, boxes[4:], SPECS[1], mode="square", context_px=2, padding="replicate")
    assert np.array_equal(sheet[40:72, 40:72], as_seen(crop, SPECS[1])[0])
    assert (sheet[40:, 76:] == 255).all()


def test_a_context_that_leaves_no_room_is_one_line() -> None:
    with pytest.raises(StageError, match="leave nothing of a 32 px crop"):
        transformations(noise(), np.array([[0, 0, 9, 9]], np.float32), SPECS[0], contexts_px=(16,), padding="mean")
