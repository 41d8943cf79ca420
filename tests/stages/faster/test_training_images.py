"""The order of training images, their mirror images, and what the network is given of them."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from region_networks import pixel_inputs, pixels, region_network, training_images

from manifests import ImageRecord
from stages.faster.images import MapInputs, TrainingImages
from stages.finetune.batches import ArrayCache
from stages.training.images import ImageSide, in_epochs

WIDES = st.lists(st.booleans(), min_size=1, max_size=12)


def batches_of_epochs(wide: list[bool], per_batch: int, epochs: int) -> list[list[tuple[int, ...]]]:
    """Each epoch's batches, as entries' numbers."""
    entries = [ImageSide(i, mirrored=False) for i in range(len(wide))]
    batch = in_epochs(entries, wide, per_batch, lambda number: np.random.default_rng([7, number]))
    groups = [len(wide)] if per_batch == 1 else [wide.count(True), wide.count(False)]
    each = sum(-(-n // per_batch) for n in groups)
    return [[tuple(e.image for e in batch(k * each + i)) for i in range(each)] for k in range(epochs)]


@given(WIDES)
@settings(max_examples=50, deadline=None)
def test_an_epoch_of_single_images_is_a_permutation(wide: list[bool]) -> None:
    for epoch in batches_of_epochs(wide, 1, 3):
        assert sorted(epoch) == [(i,) for i in range(len(wide))]


@given(WIDES, st.integers(2, 4))
@settings(max_examples=50, deadline=None)
def test_images_of_a_batch_have_one_orientation_and_each_comes(wide: list[bool], per_batch: int) -> None:
    for epoch in batches_of_epochs(wide, per_batch, 2):
        assert all(len({wide[i] for i in batch}) == 1 and len(batch) == per_batch for batch in epoch)
        seen = Counter(i for batch in epoch for i in batch)
        assert set(seen) == set(range(len(wide)))
        for side in (True, False):
            counts = [seen[i] for i in range(len(wide)) if wide[i] == side]
            # only what fills the last batch comes again, and nobody twice more than another
            assert not counts or (sum(counts) - len(counts) < per_batch and max(counts) - min(counts) <= 1)


def test_epochs_differ_and_no_call_depends_on_another() -> None:
    entries = [ImageSide(i, mirrored=False) for i in range(20)]

    def order() -> list[int]:
        batch = in_epochs(entries, [True] * 20, 1, lambda number: np.random.default_rng([1, number]))
        return [batch(i)[0].image for i in (*range(39, -1, -1),)][::-1]

    first, second = order()[:20], order()[20:]
    assert first != second and sorted(first) == sorted(second) == list(range(20))
    batch = in_epochs(entries, [True] * 20, 1, lambda number: np.random.default_rng([1, number]))
    assert [batch(i)[0].image for i in range(40)] == first + second


def test_every_image_comes_as_it_is_and_mirrored() -> None:
    assert training_images().entries == [
        ImageSide(0, False),
        ImageSide(1, False),
        ImageSide(0, True),
        ImageSide(1, True),
    ]
    assert training_images(mirror=False).entries == [ImageSide(0, False), ImageSide(1, False)]
    assert [training_images().wide(ImageSide(i, True)) for i in (0, 1)] == [True, False]


def test_boxes_of_the_mirror_image_by_hand() -> None:
    images = training_images()
    found = images.objects(ImageSide(0, True))
    np.testing.assert_array_equal(found.boxes, [[60, 6, 92, 38], [10, 10, 50, 50]])  # of 100 px
    assert found.labels.tolist() == [0, 1]
    again = found.mirrored(100)
    np.testing.assert_array_equal(again.boxes, images.objects(ImageSide(0, False)).boxes)


@pytest.mark.parametrize(("difficult", "labels"), [(False, [1]), (True, [0, 1])])
def test_difficult_objects_and_crowds(difficult: bool, labels: list[int]) -> None:
    boxes = np.array([[0, 0, 9, 9], [5, 5, 30, 30], [0, 0, 40, 40]], np.float32)
    flags: dict[str, Any] = {"difficult": np.array([True, False, False]), "crowd": np.array([False, False, True])}
    record = ImageRecord(1, "a.png", 50, 50, "0" * 64, "train", boxes, np.array([0, 1, 1]), **flags)
    images = TrainingImages([record], short_px=50, long_px=50, difficult=difficult, mirror=True)
    found = images.objects(ImageSide(0, False))
    assert found.labels.tolist() == labels
    np.testing.assert_array_equal(found.boxes, boxes[[0, 1] if difficult else [1]])
    np.testing.assert_array_equal(images.objects(ImageSide(0, True)).crowds, [[10, 0, 50, 40]])


def test_the_pixels_of_the_mirror_image_are_those_of_the_flipped_array() -> None:
    network, images = region_network(), training_images()
    inputs = pixel_inputs(network, images)
    plain, mirrored = inputs(ImageSide(0, False)), inputs(ImageSide(0, True))
    assert plain.shape == mirrored.shape == (1, 3, 96, 160)
    flipped = TrainingImages(images.records, short_px=96, long_px=160, difficult=False, mirror=True)
    by_hand = pixel_inputs(network, flipped)
    given = type(by_hand)(ArrayCache(lambda i: pixels(i)[:, ::-1].copy(), 1 << 20), by_hand.sizes, by_hand.spec)
    np.testing.assert_array_equal(mirrored, given(ImageSide(0, False)))
    assert not np.array_equal(plain, mirrored)


def test_a_stored_map_comes_as_the_heads_take_it() -> None:
    stored = {side: np.random.default_rng(side).normal(size=(3, 5, 4)).astype(np.float16) for side in (0, 1)}
    inputs = MapInputs(ArrayCache(lambda name: stored[int(name[1])], 1 << 20))
    for side in (False, True):
        found = inputs(ImageSide(0, side))
        assert (found.shape, str(found.dtype)) == ((1, 4, 3, 5), "float32")
        np.testing.assert_array_equal(found[0, 2], stored[int(side)][:, :, 2].astype(np.float32))
