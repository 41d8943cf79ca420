"""COCO's run lengths and polygons against pycocotools, bit by bit."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as peer

from manifests.masks import decode_rle, draw_polygons, encode_rle
from manifests.masks.rle import check_segmentation, draw_segmentation

MASKS = st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(lambda shape: arrays(bool, shape))
# pycocotools under numpy 2
OLD_ARRAYS = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
# Corners inside and far outside of a 23 x 31 image, on pixels' edges and between them.
NUMBERS = st.one_of(st.integers(-40, 80).map(float), st.floats(-40, 80, width=32))
POLYGONS = st.lists(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=12), min_size=1, max_size=3)


@settings(deadline=None, max_examples=200)
@given(MASKS)
def test_run_lengths_are_those_of_pycocotools(mask: Any) -> None:
    theirs = peer.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = encode_rle(mask)
    assert (ours["size"], ours["counts"]) == (theirs["size"], theirs["counts"].decode())
    for form in (ours, theirs, {**ours, "counts": runs(mask)}):
        np.testing.assert_array_equal(decode_rle(form, mask.shape), mask)


def runs(mask: Any) -> list[int]:
    """The run lengths as a list, one pixel after the other."""
    out, value = [0], False
    for pixel in mask.T.reshape(-1).tolist():
        if pixel != value:
            out.append(0)
            value = pixel
        out[-1] += 1
    return out


@OLD_ARRAYS
@settings(deadline=None, max_examples=300)
@given(POLYGONS)
def test_polygons_are_drawn_as_pycocotools_draws_them(corners: Any) -> None:
    polygons = [[number for corner in polygon for number in corner] for polygon in corners]
    theirs = peer.decode(peer.merge(peer.frPyObjects(polygons, 23, 31)))
    np.testing.assert_array_equal(draw_polygons(polygons, (23, 31)), theirs.astype(bool))


def test_a_large_mask_with_long_runs() -> None:
    """Runs of more than 2 ** 15 pixels take several letters, and differences below 0 their own form."""
    mask = np.zeros((700, 900), bool)
    mask[5:690, 10:11] = mask[:, 400:870] = True
    theirs = peer.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert encode_rle(mask)["counts"] == theirs["counts"].decode()
    np.testing.assert_array_equal(decode_rle(encode_rle(mask), mask.shape), mask)


@pytest.mark.parametrize(
    ("segmentation", "match"),
    [
        ({"size": [6, 5], "counts": [30]}, "its RLE is of a 5 x 6 image, but the image is 6 x 5"),
        ({"size": [5, 6], "counts": [29]}, "runs cover 29 pixels, but the image has 30"),
        ({"size": [5, 6], "counts": [31, -1]}, "a run that is no length"),
        ({"size": [5, 6], "counts": [1 << 62, 1 << 62, 30]}, "a run that is no length"),
        ({"size": [5, 6], "counts": [-(10**30), 30]}, "a run that is no length"),
        ({"size": [5, 6], "counts": [10**30, 30]}, "a run that is no length"),
        ({"size": [5, 6], "counts": "0\x7f"}, r"counts hold '\\x7f'"),
        ({"size": [5, 6], "counts": "P"}, "counts end within a run"),
        ({"size": [5, 6], "counts": "ooooooooooo"}, "counts hold 'o'"),
        ({"size": [5, 6]}, "its RLE has no counts"),
        ({"size": "5 x 6", "counts": [30]}, r"size is '5 x 6', not \[height, width\]"),
        ([[1, 2, 3, 4]], "its polygon has 4 numbers"),
        ([[1, 2, 3, 4, 5, 6, 7]], "its polygon has 7 numbers"),
        ([[1, 2, 3, 4, 5, "a"]], "is not a list of numbers"),
        ([[1, 2, 3, 4, 5, float("nan")]], "is not a list of numbers"),
        ([[1, 2, 3, 4, 5, 1e12]], "lies far outside"),
        ([1, 2, 3, 4, 5, 6], "is not a list of numbers"),
        ([], "is neither RLE nor a list of polygons"),
        ("text", "is neither RLE nor a list of polygons"),
    ],
)
def test_what_is_no_segmentation(segmentation: Any, match: str) -> None:
    for function in (draw_segmentation, check_segmentation):
        with pytest.raises(ValueError, match=match):
            function(segmentation, (5, 6))
