"""The stage's entry over a real store: objects, keys, summary, and what is computed again."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from plain_arrays import as_boxes, as_labels
from stage_context import StageContext

from cache.errors import StageError
from manifests import Dataset, ImageRecord
from stages.proposals.methods import all_found
from stages.proposals.settings import ProposalsSettings
from stages.regions.masks import region_mask

Pictures = Sequence[tuple[ImageRecord, NDArray[np.uint8] | None]]


class Context(StageContext):
    """With pictures that are held in memory."""

    def __init__(self, root: Path, images: Pictures, seed: int = 0, **settings: Any) -> None:
        super().__init__(root, "proposals", {"proposals": ProposalsSettings(**settings)}, seed)
        self.images = {record.id: (record, pixels) for record, pixels in images}

    def dataset(self) -> Dataset:
        return Dataset("d", ("x",), tuple(record for record, _ in self.images.values()))

    def image(self, record: ImageRecord) -> Any:
        return self.images[record.id][1]


def pictures() -> list[tuple[ImageRecord, NDArray[np.uint8]]]:
    """A picture with a disc on noise, and one too small for any proposal."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(90, 110, (60, 80, 3), np.uint8)
    y, x = np.mgrid[:60, :80]
    pixels[(y - 30) ** 2 + (x - 40) ** 2 < 15**2] = (200, 40, 40)
    disc = ImageRecord(7, "disc.png", 80, 60, "a" * 64, "train", as_boxes([[25.5, 15.5, 55, 45]]), as_labels([0]))
    dot = ImageRecord(9, "dot.png", 5, 5, "b" * 64, "train", as_boxes([[1, 1, 4, 4]]), as_labels([0]))
    return [(disc, pixels), (dot, np.zeros((5, 5, 3), np.uint8))]


def run(root: Path, images: Pictures, **settings: Any) -> Context:
    context = Context(root, images, **settings)
    context.run()
    return context


def test_objects_summary_and_masks(tmp_path: Path) -> None:
    context = run(tmp_path, pictures())
    keys, summary = context.listed().keys, context.listed().summary
    assert list(keys) == [7, 9]
    stored = context.store.get("proposals", keys[7])
    boxes = stored.arrays["boxes"]
    assert stored.attrs["count"] == len(boxes) > 0
    assert stored.attrs["image"] == "disc.png"
    assert stored.attrs["image_sha256"] == "a" * 64
    assert len(stored.attrs["hierarchies"]) == len(stored.arrays["hierarchies"]) == 8
    ys, xs = np.nonzero(region_mask(stored.arrays, 0))
    assert boxes[0].tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    assert summary["splits"]["train"]["overall"]["recall_0.5"] == 0.5  # the disc, not the dot
    assert summary["splits"]["train"]["images_without_boxes"] == 1
    assert context.log.warnings == ["dot.png: no proposals; the image is kept with zero boxes"]


def test_only_what_changed_is_computed_again(tmp_path: Path) -> None:
    images = pictures()
    first = run(tmp_path, images)
    assert first.computed == [7, 9]
    listed = first.listed()
    again = run(tmp_path, images)
    assert again.computed == []
    assert again.listed() == listed
    third = ImageRecord(11, "more.png", 80, 60, "c" * 64, "test", as_boxes([[0, 0, 9, 9]]), as_labels([0]))
    assert run(tmp_path, [*images, (third, images[0][1])]).computed == [11]
    assert run(tmp_path, images, sliding_window={"stride": 0.5}).computed == []
    assert run(tmp_path, images, k=(50,)).computed == [7, 9]
    assert run(tmp_path, images, seed=1).computed == [7, 9]


def test_regions_from_a_file_are_kept_and_are_part_of_the_key(tmp_path: Path) -> None:
    """Two sets of regions with the same boxes are two objects."""
    images = pictures()
    superpixels = np.zeros((images[0][0].height, images[0][0].width), int)
    superpixels[3:5, 4:9], superpixels[4, 6] = 1, 2
    arrays: dict[str, Any] = {
        "superpixels/7": superpixels,
        "members/7": np.array([[0, 1, 1]]),
        "boxes/dot": np.zeros((0, 4)),
    }
    options = {"method": "file", "file": {"path": str(tmp_path / "regions.npz")}}
    np.savez(tmp_path / "regions.npz", **arrays)
    first = run(tmp_path / "store", images, **options)
    stored = first.store.get("proposals", first.listed().keys[7]).arrays
    assert stored["boxes"].tolist() == [[4, 3, 9, 5]] and region_mask(stored, 0).sum() == 10
    np.savez(tmp_path / "regions.npz", **arrays | {"members/7": np.array([[0, 1, 0]])})
    second = run(tmp_path / "store", images, **options)
    assert second.computed == [7]
    stored = second.store.get("proposals", second.listed().keys[7]).arrays
    assert stored["boxes"].tolist() == [[4, 3, 9, 5]] and region_mask(stored, 0).sum() == 9


def test_boxes_from_a_file_are_keyed_by_their_image_s_rows(tmp_path: Path) -> None:
    path = tmp_path / "boxes.npz"
    arrays: dict[str, Any] = {"boxes/7": np.array([[25, 15, 55, 45], [0, 0, 9, 9]]), "boxes/dot": np.zeros((0, 4))}
    np.savez(path, **arrays)
    options = {"method": "file", "file": {"path": str(path)}}
    first = run(tmp_path / "store", pictures(), **options)
    assert first.computed == [7, 9]
    stored = first.store.get("proposals", first.listed().keys[7])
    assert stored.arrays["boxes"].tolist() == [[25, 15, 55, 45], [0, 0, 9, 9]]
    assert region_mask(stored.arrays, 1).sum() == 81
    np.savez(path, **arrays | {"boxes/dot": np.array([[0, 0, 5, 5]])})
    assert run(tmp_path / "store", pictures(), **options).computed == [9]
    assert run(tmp_path / "store", pictures(), max_proposals=1, **options).computed == [7, 9]


@pytest.mark.parametrize("resize", [None, 120])
def test_what_a_cap_costs_is_told_from_the_object(tmp_path: Path, resize: int | None) -> None:
    """All regions are told again from an object that keeps a few boxes: as many, and the same, as without a cap."""
    options: dict[str, Any] = {"resize_width_px": resize, "min_side_px": 7, "k": (20, 40)}
    (disc, _), dot = pictures()
    patches = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8).repeat(10, axis=0).repeat(10, axis=1)
    images = [(disc, patches), dot]
    everything = run(tmp_path / "all", images, **options)
    context = run(tmp_path / "two", images, max_proposals=2, **options)
    stored = [one.store.get("proposals", one.listed().keys[7]).arrays for one in (everything, context)]
    assert len(stored[0]["boxes"]) > 2 == len(stored[1]["boxes"])
    settings = ProposalsSettings(max_proposals=2, **options)
    found = all_found(context.images[7][0], stored[1], settings, 0, None)
    assert found is not None
    assert sorted(found.tolist()) == sorted(stored[0]["boxes"].tolist())
    whole, cut = (one.listed().summary["splits"]["train"] for one in (everything, context))
    assert cut["cap"]["found"] == whole["boxes"] == whole["cap"]["found"]
    assert cut["cap"]["images_cut"] == 1 and whole["cap"]["images_cut"] == 0
    for t in ("0.5", "0.7"):
        lost = whole["overall"][f"recall_{t}"] - cut["overall"][f"recall_{t}"]
        assert cut["cap"][f"recall_lost_{t}"] == pytest.approx(lost)
    assert not any("max_proposals" in line for line in everything.log.warnings)
    (line,) = [line for line in context.log.warnings if "max_proposals" in line]
    assert f"2 was reached in 1 of 2 images: {cut['boxes']} of {whole['boxes']} boxes kept, recall lost" in line


def test_a_width_for_large_pictures_is_named_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = [(replace(record, width=1200), pixels) for record, pixels in pictures()]
    context = Context(tmp_path, large)
    monkeypatch.setattr(context, "compute_images", lambda *_: pytest.fail("stop here"))
    with pytest.raises(pytest.fail.Exception, match="stop here"):
        context.run()
    assert ["1200" in line and "resize_width_px: 500" in line for line in context.log.warnings] == [True]


def test_sliding_windows_need_no_pixels(tmp_path: Path) -> None:
    images = [(record, None) for record, _ in pictures()]
    context = run(tmp_path, images, method="sliding_window", sliding_window={"scales_px": (24,), "stride": 0.1})
    assert context.listed().summary["splits"]["train"]["overall"]["recall_0.5"] == 0.5


def test_method_file_without_a_path(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"proposals\.file\.path is not set"):
        run(tmp_path, pictures(), method="file")


def test_a_dataset_without_boxes_is_refused_in_one_line(tmp_path: Path) -> None:
    context = Context(tmp_path, [])
    shown = ImageRecord(1, "a.png", 5, 5, "b" * 64, "train", as_boxes([]), as_labels([]), category=0)
    context.images = {1: (shown, np.zeros((5, 5, 3), np.uint8))}
    with pytest.raises(
        StageError, match=r"^dataset d has one class per picture and no boxes, .*classification/dvc\.yaml"
    ):
        context.run()
    assert context.computed == []


def test_a_training_image_annotated_in_part_is_not_searched(tmp_path: Path) -> None:
    (disc, pixels), (dot, black) = pictures()
    context = run(tmp_path, [(replace(disc, exhaustive=False), pixels), (dot, black)])
    assert context.computed == [9]
    assert list(context.listed().keys) == [9]
    assert context.listed().summary["splits"]["train"]["images"] == 1
    tested = replace(disc, exhaustive=False, split="test", splits=("test",))
    assert run(tmp_path / "test", [(tested, pixels), (dot, black)]).computed == [7, 9]


def test_no_image_is_searched(tmp_path: Path) -> None:
    context = run(tmp_path, [(replace(record, exhaustive=False), pixels) for record, pixels in pictures()])
    assert context.listed().entries == ()
    assert context.listed().summary["splits"] == {}
