"""The dataset's folder: the same bytes for the same seed, whatever the number of scenes; true labels; valid files."""

import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools.coco import COCO
from sklearn.datasets import load_digits

from manifests import Dataset, DatasetError, ImageSource, load_dataset
from manifests.masks import read_masks
from manifests.scenes import CLASSES, SceneOptions
from manifests.scenes.dataset import TEST_IDS_FROM, make_scene, write_scenes
from manifests.scenes.glyphs import BLOCKS, CLASSIFICATION_BLOCKS, GlyphBank, glyph_bank

SMALL = SceneOptions(n_train=5, n_test=3, classification_train=40, classification_val=20)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset]:
    folder = tmp_path_factory.mktemp("scenes")
    return folder, write_scenes(folder, SMALL)


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_same_options_same_bytes(made: tuple[Path, Dataset], tmp_path: Path) -> None:
    write_scenes(tmp_path, SMALL)
    assert digests(tmp_path) == digests(made[0])


def test_another_seed_other_scenes(made: tuple[Path, Dataset], tmp_path: Path) -> None:
    write_scenes(tmp_path, replace(SMALL, seed=1))
    ours, others = digests(made[0]), digests(tmp_path)
    assert ours.keys() == others.keys()
    assert not set(ours.values()) & set(others.values())


def test_the_number_of_scenes_changes_no_scene(made: tuple[Path, Dataset], tmp_path: Path) -> None:
    folder, dataset = made
    more = write_scenes(tmp_path, replace(SMALL, n_train=7, n_test=2, classification_train=50))
    for split, count in (("train", 5), ("test", 2)):
        assert more.split(split)[:count] == dataset.split(split)[:count]
    assert [r.id for r in more.split("test")] == [TEST_IDS_FROM + 1, TEST_IDS_FROM + 2]
    a, b = (np.load(f / "classification.npz") for f in (folder, tmp_path))
    np.testing.assert_array_equal(a["images"][:40], b["images"][:40])
    np.testing.assert_array_equal(a["images"][40:], b["images"][50:])


def test_a_smaller_run_removes_what_it_does_not_make_and_nothing_else(tmp_path: Path) -> None:
    write_scenes(tmp_path, replace(SMALL, classification_train=1))
    (tmp_path / "images" / "mine.jpg").write_bytes(b"kept")
    write_scenes(tmp_path, replace(SMALL, n_train=2, classification_train=1))
    assert sorted(p.name for p in (tmp_path / "images").iterdir()) == [
        "mine.jpg",
        *(f"test_{i:05d}.jpg" for i in (1, 2, 3)),
        *(f"train_{i:05d}.jpg" for i in (1, 2)),
    ]


def test_manifest_reads_back_and_names_every_image(made: tuple[Path, Dataset]) -> None:
    folder, dataset = made
    assert load_dataset(folder / "manifest.json") == dataset
    assert dataset.classes == CLASSES
    assert (len(dataset.split("train")), len(dataset.split("test"))) == (5, 3)
    source = ImageSource(folder)
    for record in dataset.images:
        assert source.read(record).shape == (240, 320, 3)


def test_manifest_is_coco_json(made: tuple[Path, Dataset]) -> None:
    folder, dataset = made
    coco = COCO(folder / "manifest.json")
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    assert len(coco.getAnnIds()) == sum(len(r.labels) for r in dataset.images)


def test_written_pixels_and_records_are_the_scene_s(made: tuple[Path, Dataset]) -> None:
    """JPEG at quality 95 changes a pixel by a few grey levels; the boxes are the scene's own."""
    folder, dataset = made
    for record in dataset.images[:2] + dataset.images[-1:]:
        one = make_scene(record.split, int(record.name.split("_")[1]), GlyphBank(), SMALL)
        written = ImageSource(folder).read(record)
        assert np.abs(written.astype(int) - one.pixels).mean() < 4
        np.testing.assert_array_equal(record.boxes, np.array([o.box for o in one.objects], np.float32))
        assert record.labels.tolist() == [load_digits().target[o.glyph] for o in one.objects]
        assert record.difficult.tolist() == [o.difficult for o in one.objects]
        assert record.truncated.tolist() == [o.truncated for o in one.objects]
        hidden = [1 - detail["hidden"] for detail in record.details]
        assert hidden == pytest.approx([o.visible for o in one.objects], abs=1e-4)


def test_source_says_how_it_was_made(made: tuple[Path, Dataset]) -> None:
    source = json.loads((made[0] / "source.json").read_text())
    assert (source["root"], source["format"]) == (".", "scenes")
    assert SceneOptions(**source["options"]) == SMALL


def test_classification_set_has_true_labels_and_training_glyphs_only(made: tuple[Path, Dataset]) -> None:
    with np.load(made[0] / "classification.npz", allow_pickle=False) as file:
        arrays = dict(file)
    assert arrays["images"].shape == (60, 72, 72, 3)
    assert arrays["images"].dtype == np.uint8
    assert arrays["labels"].dtype == np.int64
    assert arrays["classes"].tolist() == list(CLASSES)
    np.testing.assert_array_equal(arrays["labels"], load_digits().target[arrays["sources"]])
    assert Counter(arrays["labels"].tolist()) == dict.fromkeys(range(10), 6)
    train = arrays["train"]
    assert train.tolist() == [True] * 40 + [False] * 20
    assert set(arrays["sources"][train]) <= set(CLASSIFICATION_BLOCKS["train"])
    assert set(arrays["sources"][~train]) <= set(CLASSIFICATION_BLOCKS["val"])
    assert not set(arrays["sources"]) & set(BLOCKS["test"])
    assert arrays["images"].std(axis=(1, 2, 3)).min() > 3  # none is blank


def test_photographs_of_the_test_part_are_not_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call for a background or a piece of one asks for its own split's part."""
    from manifests.scenes import digits, distractors, scene
    from manifests.scenes.photographs import photo_crop

    asked: list[str] = []

    def spy(rng: np.random.Generator, split: str, *args: Any, **kwargs: Any) -> NDArray[np.float32]:
        asked.append(split)
        return photo_crop(rng, split, *args, **kwargs)

    for module in (digits, distractors, scene):
        monkeypatch.setattr(module, "photo_crop", spy)
    for split in ("train", "test"):
        asked.clear()
        for number in range(8):
            make_scene(split, number, glyph_bank(), SMALL)
        assert set(asked) == {split}
        assert len(asked) > 8  # pieces of photographs also


def test_classes_flags_and_counts_are_balanced() -> None:
    """120 small scenes: every class within a factor of its share, both flags present."""
    options = replace(SMALL, width_px=160, height_px=120, object_min_px=16, object_max_px=40)
    scenes = [make_scene(split, i, glyph_bank(), options) for split in ("train", "test") for i in range(60)]
    objects = [o for one in scenes for o in one.objects]
    counts = np.bincount([o.label for o in objects], minlength=10)
    assert counts.min() > 0.55 * counts.mean()
    assert counts.max() < 1.6 * counts.mean()
    assert any(o.truncated for o in objects) and any(o.difficult for o in objects)
    numbers = Counter(len(one.objects) for one in scenes)
    assert min(numbers) >= 1 and max(numbers) == options.objects_max


def test_contradicting_options_are_all_named_at_once(tmp_path: Path) -> None:
    options = replace(SMALL, objects_min=9, object_max_px=200, blur_probability=1.5)
    with pytest.raises(DatasetError) as error:
        write_scenes(tmp_path / "new", options)
    assert len(error.value.problems) == 3
    for name in ("objects_min", "object_max_px", "blur_probability"):
        assert f"scenes.{name}" in str(error.value)
    assert not (tmp_path / "new").exists()


def test_masks_are_the_visible_ink(made: tuple[Path, Dataset]) -> None:
    """In each box lies its object's mask, of its class, touching all sides of it where nothing lies over the digit."""
    folder, dataset = made
    source, bank = ImageSource.registered(folder), glyph_bank()
    for image in dataset.images:
        split, number = image.name.split("_")
        scene = make_scene(split, int(number), bank, SMALL)
        masks = read_masks(source, image, dataset.category_ids)
        assert not masks.void.any()
        assert masks.rows.tolist() == list(range(len(image.boxes)))
        assert masks.classes.tolist() == image.labels.tolist()
        for i, (mask, box) in enumerate(zip(masks.objects, image.boxes.astype(int), strict=True)):
            rows, columns = np.nonzero(mask)
            own = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert own[0] >= box[0] and own[1] >= box[1] and own[2] <= box[2] and own[3] <= box[3]
            assert mask[~scene.masks[i]].sum() == 0
            later = scene.masks[i + 1 :].any(axis=0)
            np.testing.assert_array_equal(mask, scene.masks[i] & ~later)
            if scene.objects[i].visible == 1 and not (later & scene.masks[i]).any():
                assert own == box.tolist()


def test_masks_of_an_earlier_larger_run_are_removed(tmp_path: Path) -> None:
    write_scenes(tmp_path, SMALL)
    for name in ("SegmentationClass/mine.png", "images/train_00005.png"):
        (tmp_path / name).write_bytes(b"mine")
    write_scenes(tmp_path, replace(SMALL, n_train=4))
    for folder in ("SegmentationClass", "SegmentationObject"):
        names = {path.name for path in (tmp_path / folder).iterdir()}
        assert "train_00005.png" not in names and "train_00004.png" in names
    assert (tmp_path / "SegmentationClass/mine.png").exists() and (tmp_path / "images/train_00005.png").exists()
