"""Sliding windows, OpenCV, parameters and keys, and recall figures."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from plain_arrays import as_boxes, as_flags, as_labels
from pydantic import ValidationError

from cache.errors import StageError
from manifests import Dataset, ImageRecord
from stages.boxes.geometry import iou
from stages.boxes.recall import average_best_overlap, best_overlaps, recall_at
from stages.proposals import opencv
from stages.proposals.cost import large_pictures
from stages.proposals.given import GivenProposals
from stages.proposals.methods import all_found, key_params, proposals_of
from stages.proposals.recall import ImageBoxes, recall_summary
from stages.proposals.settings import ProposalsSettings
from stages.proposals.sliding_window import sliding_windows

WINDOWS = {"scales_px": (32, 64), "aspects": (0.5, 1, 2), "stride": 0.25, "min_side_px": 20, "max_proposals": 10**6}


def windows(width: int, height: int, seed: int = 0, **changes: Any) -> NDArray[np.float32]:
    return sliding_windows(width, height, np.random.default_rng(seed), **{**WINDOWS, **changes})


def test_windows_cover_the_image_and_stay_inside() -> None:
    boxes = windows(150, 100)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= [150, 100]).all()
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    assert [0, 0, 150, 100] in boxes.tolist()
    for side in (32, 64):
        square = boxes[(boxes[:, 2] - boxes[:, 0] == side) & (boxes[:, 3] - boxes[:, 1] == side)]
        assert square[:, 0].min() == square[:, 1].min() == 0
        assert square[:, 2].max() == 150
        assert square[:, 3].max() == 100
        assert np.diff(np.unique(square[:, 0])).max() <= side / 4 + 1
    # every square object of a scale has a window with an IoU the stride promises: off by an eighth in x and y
    objects = np.array([[x, y, x + 64, y + 64] for x in range(0, 86, 7) for y in range(0, 36, 7)])
    assert best_overlaps(boxes, objects).min() >= (7 / 8) ** 2 / (2 - (7 / 8) ** 2) - 0.02


def test_a_cut_keeps_every_scale() -> None:
    boxes = windows(300, 300, max_proposals=60)
    assert len(boxes) == 60
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    assert {32**2, 64**2} <= {round(a / 1024) * 1024 for a in areas.tolist()}
    np.testing.assert_array_equal(boxes, windows(300, 300, max_proposals=60))
    assert (boxes != windows(300, 300, seed=1, max_proposals=60)).any()


def test_an_image_smaller_than_every_window_gets_itself() -> None:
    assert windows(25, 21).tolist() == [[0, 0, 25, 21]]
    assert windows(5, 5).shape == (0, 4)


def test_too_many_windows_is_an_error_not_a_hang() -> None:
    with pytest.raises(StageError, match=r"100000 x 100000 image .* larger proposals\.sliding_window"):
        windows(100_000, 100_000)


def test_opencv_missing_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "ximgproc", raising=False)
    with pytest.raises(StageError, match="opencv-contrib-python-headless"):
        opencv.require_opencv_contrib()


def test_opencv_boxes_are_exclusive_filtered_mapped_and_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV's side is played by a stand-in with its interface (the plain build lacks it)."""

    class Search:
        def setBaseImage(self, bgr: NDArray[np.uint8]) -> None:
            assert bgr.shape == (25, 50, 3)
            assert bgr[0, 0].tolist() == [3, 2, 1]

        def switchToSelectiveSearchFast(self, base_k: int, inc_k: int, sigma: float) -> None:
            assert (base_k, inc_k, sigma) == (50, 60, 0.7)

        def process(self) -> NDArray[np.int32]:
            return np.array([[0, 0, 50, 25], [10, 5, 20, 20], [0, 0, 19, 20], [10, 5, 20, 20]], np.int32)

    class Module:
        createSelectiveSearchSegmentation = Search

    monkeypatch.setattr(opencv, "require_opencv_contrib", lambda: Module)
    boxes = opencv.opencv_proposals(
        np.full((50, 100, 3), (1, 2, 3), np.uint8),
        np.random.default_rng(0),
        base_k=50,
        inc_k=60,
        sigma=0.7,
        min_side_px=20,
        resize_width_px=50,
        max_proposals=9,
    )
    assert boxes.tolist() == [[0, 0, 99, 49], [20, 10, 59, 49]]


def test_only_parameters_of_the_method_are_in_the_key() -> None:
    base = ProposalsSettings()
    assert key_params(base, 1) == key_params(ProposalsSettings(sliding_window={"stride": 0.5}, opencv={"base_k": 9}), 1)
    for change in ({"k": (50,)}, {"sigma": 1.0}, {"resize_width_px": 500}, {"max_proposals": 9}, {"colors": ("rgb",)}):
        assert key_params(base, 1) != key_params(ProposalsSettings(**change), 1)
    assert key_params(base, 1) != key_params(base, 2)
    file = ProposalsSettings(method="file")
    assert key_params(file, 1) == key_params(ProposalsSettings(method="file", k=(9,), min_side_px=3), 2)


@pytest.mark.parametrize(
    "bad",
    [{"k": ()}, {"k": (0,)}, {"colors": ("cmyk",)}, {"strategies": ("fill", "fill")}, {"max_proposals": 0}, {"kk": 1}],
)
def test_bad_parameters_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ProposalsSettings(**bad)


def test_lists_from_yaml_are_taken() -> None:
    assert ProposalsSettings(k=[50], colors=["rgb"], strategies=["fill"]).k == (50,)


def test_recall_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 40]], np.float32)
    objects = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 10, 7], [50, 50, 60, 60]], np.float32)
    overlaps = best_overlaps(boxes, objects)
    np.testing.assert_allclose(overlaps, [1, 0.5, 0.7, 0])
    assert recall_at(overlaps, (0.5, 0.7, 0.71)).tolist() == [0.75, 0.5, 0.25]
    assert average_best_overlap(overlaps) == pytest.approx(0.55)


def test_recall_without_boxes_or_objects() -> None:
    assert best_overlaps(np.zeros((0, 4)), np.zeros((2, 4))).tolist() == [0, 0]
    assert best_overlaps(np.ones((2, 4)), np.zeros((0, 4))).shape == (0,)
    assert np.isnan(recall_at(np.zeros(0), (0.5,))).all()
    assert np.isnan(average_best_overlap(np.zeros(0)))


def test_best_overlaps_is_the_columns_maximum_of_iou_over_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 50, (100, 2, 2))
    boxes = np.concatenate([corners[:, 0], corners[:, 0] + corners[:, 1] + 1], axis=1)
    monkeypatch.setattr("stages.boxes.recall._BLOCK", 7)
    np.testing.assert_array_equal(best_overlaps(boxes[:80], boxes[80:]), iou(boxes[:80], boxes[80:]).max(axis=0))


def test_the_summary_leaves_difficult_and_crowd_out_and_counts_per_split() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 20], [5, 5, 9, 9], [5, 5, 9, 8]], np.float32)
    flags: dict[str, Any] = {
        "difficult": as_flags([False, False, True, False]),
        "crowd": as_flags([False, False, False, True]),
    }
    images = (
        ImageRecord(
            1, "a.png", 50, 50, "0" * 64, "train", boxes, as_labels([0, 1, 0, 0]), splits=("train", "trainval"), **flags
        ),
        ImageRecord(2, "b.png", 50, 50, "1" * 64, "val", boxes[:0], as_labels([]), splits=("val", "trainval")),
    )
    dataset = Dataset("d", ("x", "y", "z"), images)
    reads: list[int] = []

    def read(record: ImageRecord) -> ImageBoxes:
        reads.append(record.id)
        kept = boxes[:1] if record.id == 1 else boxes[:0]
        return ImageBoxes(kept, kept)

    summary = recall_summary(dataset, read)
    assert sorted(reads) == [1, 2]
    assert list(summary) == ["train", "trainval", "val"]
    assert summary["train"]["overall"] == {
        "objects": 2,
        "recall_0.5": 1.0,
        "recall_0.7": 0.5,
        "mean_best_overlap": 0.75,
    }
    assert list(summary["train"]["classes"]) == ["x", "y"]
    assert summary["train"]["classes"]["y"]["mean_best_overlap"] == 0.5
    assert summary["train"]["mabo"] == 0.75
    assert summary["trainval"]["images"] == 2
    assert summary["val"]["images_without_boxes"] == 1
    assert summary["val"]["overall"]["recall_0.5"] is None
    none_lost = {"found": 1, "images_cut": 0, "recall_lost_0.5": 0.0, "recall_lost_0.7": 0.0}
    assert summary["train"]["cap"] == none_lost
    assert summary["val"]["cap"] == none_lost | {"found": 0, "recall_lost_0.5": None, "recall_lost_0.7": None}


def test_what_a_cap_costs_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 36], [50, 50, 60, 60]], np.float32)
    objects = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60], [80, 80, 90, 90]], np.float32)
    record = ImageRecord(1, "a.png", 99, 99, "0" * 64, "train", objects, as_labels([0] * 4))
    other = ImageRecord(2, "b.png", 99, 99, "1" * 64, "train", objects[:1], as_labels([0]))
    dataset = Dataset("d", ("x",), (record, other))

    def cap(**found: Any) -> Any:
        of = {1: ImageBoxes(boxes[:1], found.get("first", boxes)), 2: ImageBoxes(boxes[:1], boxes[:1])}
        return recall_summary(dataset, lambda image: of[image.id])["train"]["cap"]

    # the second box covers its object by 0.625
    assert cap() == {"found": 4, "images_cut": 1, "recall_lost_0.5": 0.4, "recall_lost_0.7": 0.2}
    assert cap(first=None) == {"found": None, "images_cut": 1, "recall_lost_0.5": None, "recall_lost_0.7": None}


def test_a_cap_has_the_key_it_had_and_no_cap_another() -> None:
    capped = key_params(ProposalsSettings(max_proposals=2000), 3)
    assert capped["max_proposals"] == 2000
    assert key_params(ProposalsSettings(), 3) == capped | {"max_proposals": None}


def test_all_boxes_beyond_a_cap_are_told_again(tmp_path: Path) -> None:
    """Windows are enumerated once more, a file's rows are there, OpenCV's are not known; without a cap all are kept."""
    record = ImageRecord(1, "a.png", 90, 70, "0" * 64, "train", as_boxes([]), as_labels([]))
    given = np.array([[0, 0, 9, 9], [1, 1, 5, 5], [2, 2, 7, 8]], np.float32)
    for options, boxes in (
        ({"method": "sliding_window", "sliding_window": {"scales_px": (24,)}}, None),
        ({"method": "file"}, GivenProposals(given)),
    ):
        whole = ProposalsSettings(**options)
        everything = proposals_of(record, None, whole, 0, boxes)[0]
        few = ProposalsSettings(max_proposals=2, **options)
        cut = proposals_of(record, None, few, 0, boxes)[0]
        assert len(cut["boxes"]) == 2 < len(everything["boxes"])
        np.testing.assert_array_equal(all_found(record, cut, few, 0, boxes), everything["boxes"])
        np.testing.assert_array_equal(all_found(record, everything, whole, 0, boxes), everything["boxes"])
    assert all_found(record, {"boxes": given}, ProposalsSettings(method="opencv", max_proposals=3), 0, None) is None
    found = all_found(record, {"boxes": given}, ProposalsSettings(method="opencv", max_proposals=4), 0, None)
    assert found is not None and len(found) == 3


@pytest.mark.parametrize(
    ("sizes", "options", "told"),
    [
        ([(4000, 3000)] * 3, {}, ["4000 x 3000 px", "about 100,000 boxes", "in 68 s", "about 2,400 boxes in 0.2 s"]),
        ([(1001, 500)], {}, ["1001 x 500 px"]),
        ([(4000, 3000), (900, 700), (800, 700)], {}, ["1 of the 3 pictures", "4000 x 3000 px"]),
        ([(480, 360)] * 8 + [(4000, 3000)] * 4, {}, ["4 of the 12 pictures", "4000 x 3000 px"]),
        ([(480, 360)] * 200 + [(1100, 800)], {}, []),  # 9,000 of 400,000 boxes
        ([(1000, 3000)], {}, []),
        ([(4000, 3000)], {"resize_width_px": 500}, []),
        ([(4000, 3000)], {"method": "sliding_window"}, []),
        ([], {}, []),
    ],
)
def test_large_pictures_are_told_what_a_width_saves(
    sizes: list[tuple[int, ...]],
    options: dict[str, Any],
    told: list[str],
) -> None:
    images = [
        ImageRecord(i, "a", w, h, "0" * 64, "train", as_boxes([]), as_labels([])) for i, (w, h) in enumerate(sizes)
    ]
    lines = list(large_pictures(images, ProposalsSettings(**options)))
    assert len(lines) == bool(told)
    assert all(text in lines[0] and "resize_width_px: 500" in lines[0] for text in told)
