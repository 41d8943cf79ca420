"""Names of maps: no two images share one; and a painted pixel by hand."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests import ImageRecord
from manifests.masks import voc_palette
from stages.segmentation.drawing import map_files, painted

NAMES = st.lists(st.text("ab.", min_size=1, max_size=5).map(lambda stem: f"{stem}.jpg"), min_size=1, max_size=6)


def record(number: int, name: str) -> ImageRecord:
    return ImageRecord(number, name, 4, 4, "0" * 64, "test", np.zeros((0, 4), np.float32), np.zeros(0, np.int64))


def test_a_map_is_called_as_its_image() -> None:
    assert map_files([record(1, "a.jpg"), record(2, "b/c.jpeg")]) == ["a.png", "b/c.png"]
    assert map_files([record(1, "a.jpg"), record(2, "a.bmp")]) == ["a.jpg.png", "a.bmp.png"]


@settings(deadline=None)
@given(NAMES, NAMES)
def test_no_two_images_share_a_map(some: list[str], others: list[str]) -> None:
    names = list(dict.fromkeys([*some, *others, "a.jpg", "a.bmp", "a.jpg.bmp"]))
    assert len(set(map_files([record(i, name) for i, name in enumerate(names)]))) == len(names)


def test_a_painted_pixel() -> None:
    pixels = np.full((1, 3, 3), 200, np.uint8)
    found = painted(pixels, np.array([[0, 1, 255]], np.uint8))
    assert found[0, 0].tolist() == [round(0.45 * 200 + 0.55 * 96)] * 3
    assert found[0, 1].tolist() == [round(0.45 * 200 + 0.55 * int(c)) for c in voc_palette()[1]]
    assert found[0, 2].tolist() == [round(0.45 * 200 + 0.55 * 255)] * 3
