"""Regions from a file: superpixels with members, and COCO's run lengths; their boxes, objects, and what is wrong."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from plain_arrays import as_boxes, as_labels

from cache.errors import StageError
from manifests import ImageRecord
from manifests.masks import encode_rle
from stages.proposals.file import read_proposal_file
from stages.proposals.given import GivenProposals, given_regions, regions_of_masks
from stages.proposals.methods import all_found, proposals_of
from stages.proposals.settings import ProposalsSettings
from stages.regions.image_regions import ImageRegions
from stages.regions.masks import region_mask

HEIGHT, WIDTH = 6, 8
SUPERPIXELS = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) // 8 // 2 * 2 + (np.arange(WIDTH) >= 3)
MEMBERS = np.array([[1, 0, 0, 0, 0, 0], [0, 1, 0, 1, 0, 0], [0, 0, 0, 0, 1, 1]], np.uint8)
RECORD = ImageRecord(11, "sub/cat.jpg", WIDTH, HEIGHT, "0" * 64, "train", as_boxes([]), as_labels([]))
VOID = np.zeros((HEIGHT, WIDTH), bool)
GOOD: dict[str, Any] = {"superpixels/cat": SUPERPIXELS, "members/cat": MEMBERS}
DRAWN = arrays(bool, st.tuples(st.integers(1, 12), st.just(HEIGHT), st.just(WIDTH))).map(
    lambda masks: masks[masks.any(axis=(1, 2))]
)


def write(path: Path, entries: Mapping[str, Any]) -> Path:
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            for name, array in entries.items():
                file[name] = array
    else:
        np.savez(path, **entries)
    return path


def write_json(path: Path, rows: Any) -> Path:
    path.write_text(json.dumps(rows))
    return path


def objects_arrays(given: GivenProposals, **settings: Any) -> dict[str, NDArray[Any]]:
    """The arrays of the proposals object that is made of them."""
    return proposals_of(RECORD, None, ProposalsSettings(method="file", **settings), 0, given)[0]


def drawn(given: GivenProposals) -> list[NDArray[np.bool_]]:
    """Every region as it is drawn from the object, in both ways."""
    found = objects_arrays(given, max_proposals=None)
    regions = ImageRegions(found, HEIGHT, WIDTH)
    for i in range(len(regions)):
        np.testing.assert_array_equal(regions.mask(i), region_mask(found, i))
        np.testing.assert_array_equal(regions.mask(i, (2, 1, 7, 5)), region_mask(found, i)[1:5, 2:7])
    return [region_mask(found, i) for i in range(len(regions))]


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_superpixels_and_members(tmp_path: Path, suffix: str) -> None:
    """A region is its superpixels' pixels, its box theirs, and scores put the best first."""
    found = read_proposal_file(write(tmp_path / f"p{suffix}", GOOD), [RECORD])[11]
    assert found.boxes.tolist() == [[0, 0, 3, 2], [3, 0, 8, 4], [0, 4, 8, 6]]
    for mask, own in zip(drawn(found), MEMBERS, strict=True):
        np.testing.assert_array_equal(mask, np.isin(SUPERPIXELS, np.flatnonzero(own)))
    scored = GOOD | {"scores/cat": np.array([0.1, 0.3, 0.2])}
    best = read_proposal_file(write(tmp_path / f"s{suffix}", scored), [RECORD])[11]
    np.testing.assert_array_equal(drawn(best), np.array(drawn(found))[[1, 2, 0]])


def test_an_object_has_the_first_so_many(tmp_path: Path) -> None:
    found = read_proposal_file(write(tmp_path / "p.npz", GOOD), [RECORD])[11]
    kept = objects_arrays(found, max_proposals=2)
    assert {name: array.shape for name, array in kept.items()} == {
        **{"boxes": (2, 4), "working_size": (2,)},
        **{"superpixels": (HEIGHT, WIDTH), "members": (2, 6)},
    }
    every = all_found(RECORD, kept, ProposalsSettings(method="file", max_proposals=2), 0, found)
    assert every is not None and len(every) == 3


@settings(deadline=None)
@given(DRAWN)
def test_drawn_regions_come_back_whole(masks: NDArray[np.bool_]) -> None:
    given = regions_of_masks(list(masks), (HEIGHT, WIDTH))
    assert len(given.boxes) == len(masks)
    for mask, again, (x1, y1, x2, y2) in zip(masks, drawn(given), given.boxes, strict=True):
        np.testing.assert_array_equal(again, mask)
        rows, columns = np.nonzero(mask)
        assert [x1, y1, x2, y2] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@settings(deadline=None)
@given(DRAWN, arrays(bool, (3, HEIGHT, WIDTH)), arrays(bool, (HEIGHT, WIDTH)))
def test_shared_pixels_are_those_of_the_masks(
    masks: NDArray[np.bool_], objects: NDArray[np.bool_], void: NDArray[np.bool_]
) -> None:
    """Summed over superpixels or counted in drawn masks: the same numbers."""
    given = regions_of_masks(list(masks), (HEIGHT, WIDTH))
    shared = ImageRegions(objects_arrays(given, max_proposals=None), HEIGHT, WIDTH).shared(objects, void)
    inside = [[int((mask & one & ~void).sum()) for one in objects] for mask in masks]
    assert shared.inside.tolist() == inside
    assert shared.regions.tolist() == [int((mask & ~void).sum()) for mask in masks]
    assert shared.objects.tolist() == [int((one & ~void).sum()) for one in objects]


def test_coco_results(tmp_path: Path) -> None:
    """By id or by name, best first where there are scores."""
    masks = [np.isin(SUPERPIXELS, np.flatnonzero(own)) for own in MEMBERS]
    rows = [{"image_id": 11, "segmentation": encode_rle(mask), "category_id": 1} for mask in masks]
    found = read_proposal_file(write_json(tmp_path / "p.json", rows), [RECORD])[11]
    np.testing.assert_array_equal(drawn(found), masks)
    named = [row | {"image_id": "cat", "score": score} for row, score in zip(rows, (0.5, 2, 1), strict=True)]
    best = read_proposal_file(write_json(tmp_path / "q.json", named), [RECORD])[11]
    np.testing.assert_array_equal(drawn(best), [masks[1], masks[2], masks[0]])


def test_an_image_without_a_region(tmp_path: Path) -> None:
    """Said by members of no row, or by an entry without segmentation; its object has no region and no box."""
    entries = GOOD | {"members/cat": MEMBERS[:0]}
    for path in (
        write(tmp_path / "p.npz", entries),
        write_json(tmp_path / "p.json", [{"image_id": 11, "segmentation": None}]),
    ):
        found = read_proposal_file(path, [RECORD])[11]
        assert found.boxes.shape == (0, 4) and drawn(found) == []
        shared = ImageRegions(objects_arrays(found), HEIGHT, WIDTH).shared(np.ones((2, HEIGHT, WIDTH), bool), VOID)
        assert shared.inside.shape == (0, 2)


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"superpixels/cat": SUPERPIXELS[1:]}, r"superpixels have shape \[5, 8\], not \[6, 8\] as the image has"),
        ({"superpixels/cat": SUPERPIXELS + 1}, r"1 to 6, but members has columns 0 to 5 \(MATLAB counts from 1"),
        ({"superpixels/cat": SUPERPIXELS - 1}, "-1 to 4, but members has columns 0 to 5"),
        ({"superpixels/cat": SUPERPIXELS * 1.0}, "superpixels are float64, not whole numbers"),
        ({"members/cat": MEMBERS[0]}, r"members are uint8 \[6\], not bool \[regions, superpixels\]"),
        ({"members/cat": MEMBERS * 2}, "other numbers than 0 and 1"),
        ({"members/cat": MEMBERS * [[1], [0], [1]]}, "1 regions have no pixel, first in row 1"),
        ({"scores/cat": np.zeros(2)}, r"scores have shape \[2\], not \[3\]"),
        ({"boxes/cat": np.array([[0, 0, 1, 1]])}, "'boxes/cat' is beside 'superpixels/cat'"),
        ({"members/dog": MEMBERS}, "'members/dog' has no 'superpixels/dog'"),
        ({"superpixels/dog": SUPERPIXELS}, "'superpixels/dog' has no 'members/dog'"),
    ],
)
def test_one_wrong_entry(tmp_path: Path, suffix: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(StageError, match=message) as caught:
        read_proposal_file(write(tmp_path / f"p{suffix}", GOOD | change), [RECORD])
    assert len(str(caught.value).splitlines()) == 1


RLE = encode_rle(np.ones((HEIGHT, WIDTH), bool))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({}, "is no JSON list of regions"),
        ([{"image_id": 11}], "entry 0 has no image_id and segmentation"),
        ([{"segmentation": RLE}], "entry 0 has no image_id and segmentation"),
        ([{"image_id": 11, "segmentation": [[1, 2, 3, 4, 5, 6]]}], "region 0: its segmentation is no RLE"),
        ([{"image_id": 11, "segmentation": RLE | {"size": [8, 6]}}], "region 0: its RLE is of a 6 x 8 image, but"),
        ([{"image_id": 11, "segmentation": {"size": [6, 8], "counts": [48]}}], "1 regions have no pixel"),
        ([{"image_id": 11, "segmentation": RLE, "score": "high"}], "a score is no finite number"),
        ([{"image_id": 11, "segmentation": RLE, "score": 1}, {"image_id": 11, "segmentation": RLE}], "or some regions"),
        ([{"image_id": 12, "segmentation": RLE}], r"image 'cat' \(id 11\) has no entry; add 'image_id cat'"),
    ],
)
def test_wrong_json(tmp_path: Path, rows: Any, message: str) -> None:
    with pytest.raises(StageError, match=message):
        read_proposal_file(write_json(tmp_path / "p.json", rows), [RECORD])


def test_a_superpixel_without_a_pixel_widens_no_box() -> None:
    superpixels = np.zeros((HEIGHT, WIDTH), np.int32)
    superpixels[2:4, 5:] = 2
    given = given_regions(superpixels, np.array([[False, True, True]]))
    assert given.boxes.tolist() == [[5, 2, 8, 4]]
    assert given.regions is not None
    unpacked = given.regions.unpacked()
    np.testing.assert_array_equal(unpacked[0], superpixels)
    assert unpacked[1].tolist() == [[False, True, True]]
