"""The images of OverFeat's trainings: those held out, their order, their objects, and what a training's key names."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
from dense_images import SCALES, images, record, records, windows

from cache.errors import StageError
from stages.overfeat.settings import FinetuneDenseSettings
from stages.overfeat.training import identity, image_digests, trained_on, training_run
from stages.training.held_out import held_out
from stages.training.images import ImageSide


def test_objects_of_an_image_and_its_mirror_image() -> None:
    of = record(0, [[8, 6, 58, 60], [60, 20, 95, 60], [0, 0, 30, 20]], [0, 1, 1], difficult=[0, 1, 0], crowd=[0, 0, 1])
    plain = images([of]).objects(ImageSide(0, mirrored=False))
    assert (plain.labels.tolist(), plain.counted.tolist()) == ([0, 1], [True, False])
    assert images([of], difficult=True).objects(ImageSide(0, mirrored=False)).counted.tolist() == [True, True]
    mirrored = images([of]).objects(ImageSide(0, mirrored=True))
    np.testing.assert_array_equal(mirrored.boxes, [[42, 6, 92, 60], [5, 20, 40, 60]])  # of 100 px
    np.testing.assert_array_equal(mirrored.crowds, [[70, 0, 100, 20]])
    np.testing.assert_array_equal(plain.crowds, [[0, 0, 30, 20]])


def test_every_image_comes_in_an_epoch_as_it_is_and_mirrored() -> None:
    run = training_run(FinetuneDenseSettings(), "finetune_dense", seed=4, workers=2)
    made = images()
    assert len(made.sides) == 6 and len(images(mirror=False).sides) == 3
    batch = made.batches(made.sides, 4, run)
    epochs = [Counter(side for number in (2 * k, 2 * k + 1) for side in batch(number)) for k in range(3)]
    assert all(set(epoch) == set(made.sides) and sorted(epoch.values()) == [1, 1, 1, 1, 2, 2] for epoch in epochs)
    assert [batch(i) for i in range(6)] == [made.batches(made.sides, 4, run)(i) for i in range(6)]
    other = made.batches(made.sides, 4, dataclasses.replace(run, seed=5))
    assert [batch(i) for i in range(6)] != [other(i) for i in range(6)]
    named = made.names(lambda _: (ImageSide(1, mirrored=True), ImageSide(0, mirrored=False)))(0)
    assert named == "1.png (mirrored), 0.png"


def test_images_held_out_are_not_trained_on() -> None:
    many = [dataclasses.replace(record(2), id=i, sha256=f"{i:064x}") for i in range(20)]
    left = trained_on(many, 0.25, 3)
    assert len(left) == 15 and {one.id for one in many} - {one.id for one in left} == held_out(many, 0.25, 3)
    assert [one.id for one in left] == sorted(one.id for one in left)
    assert trained_on(many, 0, 3) == many


def test_a_training_is_named_by_images_objects_and_maps() -> None:
    of, keys = records(), ["a", "b", "c"]
    base = image_digests(of, keys)
    moved = [dataclasses.replace(of[0], boxes=of[0].boxes + 1), *of[1:]]
    assert len(base) == 3
    for other in (image_digests(moved, keys), image_digests(of, ["a", "b", "d"]), image_digests(of[:2], keys[:2])):
        assert other != base
    assert image_digests(records(), keys) == base


def test_what_changes_no_result_is_in_no_key() -> None:
    def named(**changes: int | float) -> object:
        settings = FinetuneDenseSettings(**changes)
        return identity(settings, "finetune_dense", seed=1, classes=("a",), device="cpu")

    assert named() == named(checkpoint_every=7, image_cache_mb=3, held_out_fraction=0.5)  # the last changes the images
    assert len({str(named(**one)) for one in ({}, {"lr": 0.5}, {"positives": 3}, {"iterations": 9})}) == 4


def test_images_without_objects_are_told_of() -> None:
    with pytest.raises(StageError, match=r"^regress: .* set regress.difficult to true if all are marked difficult"):
        images([record(2)]).check_objects("regress")
    images().check_objects("regress")


def test_sizes_of_windows_and_objects_are_told_in_px_of_the_images() -> None:
    """Images are of 80 px: a window of 64 px sees 71 px at scale 72, 49 at 104 and 38 at 136."""
    told = images([record(2, [[0, 0, 16, 16], [0, 0, 40, 40], [10, 10, 18, 18]], [0, 0, 0])]).sizes_told()
    assert told.startswith("objects are of 8 to 40 px and windows of 38 to 71 px in the images")
    assert "such as 320," in told  # 64 * 80 / 16
    large = images([record(0, [[0, 0, 100, 80]], [0])]).sizes_told()
    assert "such as 64," in large  # never below a window
    assert windows().side_px == 64 and SCALES[0] == 72
