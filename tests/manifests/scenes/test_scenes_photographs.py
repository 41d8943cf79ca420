"""Photograph parts: disjoint, and a crop shows nothing of another part."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images

from manifests.scenes import photographs
from manifests.scenes.photographs import PARTS, part, photo_crop


def test_photographs_are_scikit_learns() -> None:
    for ours, theirs in zip(photographs.photographs(), load_sample_images().images, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_parts_share_no_column_and_keep_a_jpeg_block_apart() -> None:
    (a, b), (c, d) = PARTS["train"], PARTS["test"]
    assert 0 <= a < b < c < d <= 640
    assert c - b >= 8


@pytest.mark.parametrize("split", list(PARTS))
def test_crops_see_their_own_part_only(split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paint the other part over: the crops stay the same; paint their own: they do not."""

    def crops(painted: str) -> list[NDArray[np.float32]]:
        left, right = PARTS[painted]
        images = tuple(image.copy() for image in load_sample_images().images)
        for image in images:
            image[:, left:right] = 0
        monkeypatch.setattr(photographs, "photographs", lambda: images)
        photographs._part_image.cache_clear()
        rng = np.random.default_rng(1)
        return [photo_crop(rng, split, 80, 60) for _ in range(20)]

    other = next(name for name in PARTS if name != split)
    try:
        blind_to_other, blind_to_own = crops(other), crops(split)
    finally:
        monkeypatch.undo()
        photographs._part_image.cache_clear()
    rng = np.random.default_rng(1)
    true = [photo_crop(rng, split, 80, 60) for _ in range(20)]
    assert all(np.array_equal(x, y) for x, y in zip(true, blind_to_other, strict=True))
    assert all(x.std() > y.std() for x, y in zip(true, blind_to_own, strict=True))


@pytest.mark.parametrize(("width", "height"), [(320, 240), (40, 90), (7, 3), (1, 1)])
def test_crop_has_the_form_asked_for(width: int, height: int) -> None:
    crop = photo_crop(np.random.default_rng(0), "test", width, height)
    assert crop.shape == (height, width, 3)
    assert crop.dtype == np.float32
    assert 0 <= crop.min() <= crop.max() <= 1


def test_parts_have_the_photograph_s_height() -> None:
    assert part(0, "train").shape == (427, 344, 3)
    assert part(1, "test").shape == (427, 288, 3)
