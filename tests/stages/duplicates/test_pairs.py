"""Pairs by labels and by descriptors, what is marked, and the list that is made of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from plain_arrays import as_boxes, as_labels

from manifests import Dataset, ImageRecord
from manifests.drop_list import read_drop_list
from stages.duplicates.pairs import FoundPairs, Pair, Side, equal_labels, near_pairs
from stages.duplicates.results import document, drop_list, shown_pairs

NONE: tuple[Sequence[str], Sequence[str]] = ([], [])


def image(number: int, split: str) -> ImageRecord:
    return ImageRecord(number, f"p/{number}.jpg", 9, 9, f"{number:064x}", split, as_boxes([]), as_labels([]))


def places(found: FoundPairs) -> set[tuple[int, int]]:
    return {(pair.a, pair.b) for pair in found.pairs}


@given(st.lists(st.tuples(st.sampled_from([None, "x", "y"]), st.sampled_from(["train", "test"])), max_size=12))
def test_every_image_with_a_twin_in_a_split_is_paired_with_one_there(given: list[tuple[str | None, str]]) -> None:
    labels, splits = [label for label, _ in given], [split for _, split in given]
    found = places(equal_labels(labels, None, (splits, splits)))
    every = {(a, b) for b in range(len(given)) for a in range(b) if labels[a] == labels[b] and labels[a] is not None}
    assert found <= every
    for a in range(len(given)):
        theirs = {splits[other] for pair in every if a in pair for other in pair if other != a}
        assert theirs == {splits[other] for pair in found if a in pair for other in pair if other != a}
    assert len(found) <= 2 * len(given)  # not their square


def test_labels_of_two_sets_pair_across_them_alone() -> None:
    found = equal_labels(["x", "y", None, "x"], ["z", "x", None, "x"], (["train"] * 4, ["train"] * 4))
    assert places(found) == {(0, 1), (3, 1)}
    assert all(pair.marked and pair.distance == 0 for pair in found.pairs)


def test_a_twin_in_train_is_found_behind_many_in_test() -> None:
    """Five pictures of a film in test, each nearer to the next than to the one in train."""
    film = np.array([[0.0], [0.01], [0.02], [0.03], [0.04], [0.1]])
    others = np.arange(1, 8)[:, None] * 5.0
    vectors = np.concatenate([film, others]).astype(np.float32) @ np.ones((1, 4), np.float32)
    splits = ["test"] * 5 + ["train"] + ["train"] * 7
    found = near_pairs(vectors, None, (splits, splits), below=0.6)
    assert {(i, 5) for i in range(5)} <= {(p.a, p.b) for p in found.pairs if p.marked}
    distances = [pair.distance for pair in found.pairs]
    assert distances == sorted(distances)


def test_what_is_marked_is_relative_to_the_sets_own_distances() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 30)).astype(np.float32)
    vectors[1] = vectors[0] + 0.01
    splits = ["train"] * 40
    for spread in (1.0, 0.01):  # of one kind, or of all kinds: the same pair
        found = near_pairs(vectors * np.float32(spread), None, (splits, splits), below=0.6)
        assert [(p.a, p.b) for p in found.pairs if p.marked] == [(0, 1)]
    assert found.median is not None and found.median > 0
    assert all(p.marked for p in near_pairs(vectors[:2], None, (splits[:2], splits[:2]), below=1.0).pairs)


def test_a_search_tells_how_far_it_is() -> None:
    vectors = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
    told: list[tuple[int, int]] = []
    splits = ["train"] * 20 + ["test"] * 10
    near_pairs(vectors, None, (splits, splits), below=0.5, told=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]  # two splits: a block of products and one of distances each


def test_two_sets_and_a_set_of_one() -> None:
    a, b = np.zeros((2, 3), np.float32), np.array([[3, 0, 4], [0, 0, 1]], np.float32)
    found = near_pairs(a, b.__getitem__, (["test"] * 2, ["x", "x"]), below=0.5)
    assert [(p.a, p.b, p.distance, p.marked) for p in found.pairs] == [(0, 1, 1, False), (1, 1, 1, False)]
    alone = near_pairs(a[:1], None, (["test"], ["test"]), below=0.5)
    assert alone == FoundPairs([], None)


def test_the_list_names_test_images_with_a_twin_in_another_split_and_is_read_again(tmp_path: Path) -> None:
    images = [image(number, split) for number, split in enumerate(["train", "test", "test", "val", "train"])]
    side = Side("d", images)
    pairs = [
        Pair(0, 1, 0.1, True),  # 1 is tested on, and was trained on
        Pair(1, 2, 0.2, True),  # within test: to be looked at
        Pair(2, 3, 0.3, True),  # either is no training image: both
        Pair(0, 4, 0.4, True),  # within train
        Pair(3, 4, 0.5, False),
    ]
    text = drop_list(FoundPairs(pairs, 1.0), (side, side))
    (tmp_path / "drop.txt").write_text(text, encoding="utf-8")
    listed = read_drop_list(tmp_path / "drop.txt", Dataset("d", (), tuple(images)))
    assert [one.id for one in listed] == [1, 2, 3]
    assert "# 0.100 from p/0.jpg (train)\np/1.jpg\n" in text
    other = Side("e", images)
    assert drop_list(FoundPairs([Pair(0, 4, 0.0, True)]), (side, other)).endswith(
        "# 0.000 from p/4.jpg (train)\np/0.jpg\n"
    )


def test_the_list_knows_the_splits_that_are_trained_on() -> None:
    splits = [("val", "val1"), ("val", "val2"), ("extra",), ("train",), ("test",)]
    images = [replace(image(number, names[0]), splits=names) for number, names in enumerate(splits)]
    side = Side("d", images)
    pairs = [
        Pair(0, 1, 0.1, True),  # both of val, but 0 is trained on
        Pair(0, 2, 0.2, True),  # both are trained on
        Pair(3, 4, 0.3, True),  # neither is, though one is called train
        Pair(2, 3, 0.4, True),  # 2 is trained on
    ]

    def listed(trained: Sequence[str]) -> list[str]:
        text = drop_list(FoundPairs(pairs), (side, side), trained)
        return [line for line in text.splitlines() if not line.startswith("#")]

    assert listed(["val1", "extra"]) == ["p/1.jpg", "p/3.jpg", "p/4.jpg"]
    assert listed(()) == ["p/0.jpg", "p/2.jpg", "p/4.jpg"]


def test_an_image_of_val_and_trainval_is_trained_on() -> None:
    """Split as bccd is: val is a part of trainval, and the most specific split of its images."""
    splits = [("trainval", "val"), ("Train", "trainval"), ("val", "trainval"), ("test",)]
    images = [replace(image(number, names[-1]), splits=names) for number, names in enumerate(splits)]
    images[2] = replace(images[2], split="val")
    side = Side("d", images)
    text = drop_list(FoundPairs([Pair(0, 1, 0.1, True), Pair(2, 3, 0.2, True)]), (side, side))
    assert [line for line in text.splitlines() if not line.startswith("#")] == ["p/3.jpg"]


def test_all_marked_pairs_are_listed_and_the_nearest_others() -> None:
    side = Side("d", [image(number, "train") for number in range(9)])
    found = FoundPairs([Pair(i, i + 1, float(i), i < 3) for i in range(8)], 5.0)
    assert [len(shown_pairs(found, most)) for most in (0, 2, 5, 99)] == [3, 3, 5, 8]
    said = document(found, (side, side), "gist", 0.5, 5)
    assert said["datasets"] == ["d"] and said["images"] == [9] and said["marked"] == 3 and said["not_listed"] == 3
    assert said["pairs"][4]["b"] == {"dataset": "d", "image": "p/5.jpg", "id": 5, "split": "train"}
