"""Registering, opening and refreshing datasets; and reading their images."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import voc_object, voc_xml
from PIL import Image

from manifests import (
    DatasetError,
    ImageSource,
    ReadOptions,
    decode_image,
    import_dataset,
    load_registered,
    refresh,
    register,
    registered_names,
)
from manifests.registry import put_into_halves
from manifests.source import HalvedSplit


def test_import_load_and_refresh(make_voc: Callable[..., Path], tmp_path: Path) -> None:
    root, artifacts = make_voc(), tmp_path / "artifacts"
    options = ReadOptions(classes=("dog", "cat"), on_error="skip", seed=5)
    done = import_dataset("voc", root, "mine", options, artifacts)
    assert done == load_registered("mine", artifacts)
    assert done.dataset.name == "mine"
    assert ReadOptions.from_json(done.source.options) == options
    assert registered_names(artifacts) == ["mine"]
    before = (artifacts / "datasets/mine/manifest.json").read_bytes()
    assert refresh("mine", artifacts) == done
    assert (artifacts / "datasets/mine/manifest.json").read_bytes() == before
    (root / "ImageSets/Main/train.txt").write_text("")
    assert [i.name for i in refresh("mine", artifacts).dataset.images] == ["b"]


def test_a_project_can_be_moved(make_voc: Callable[..., Path], tmp_path: Path) -> None:
    make_voc(folder="project/data/voc")
    import_dataset("voc", tmp_path / "project/data/voc", "mine", ReadOptions(), tmp_path / "project/artifacts")
    shutil.move(tmp_path / "project", tmp_path / "moved")
    artifacts = tmp_path / "moved/artifacts"
    record = load_registered("mine", artifacts).dataset.images[0]
    assert ImageSource.registered(artifacts / "datasets/mine").read(record).shape == (30, 40, 3)
    assert len(refresh("mine", artifacts).dataset.images) == 2


def test_a_failed_import_registers_nothing(make_voc: Callable[..., Path], tmp_path: Path) -> None:
    root = make_voc({"a": "<annotation"}, splits={})
    with pytest.raises(DatasetError):
        import_dataset("voc", root, "mine", ReadOptions(), tmp_path / "artifacts")
    assert not (tmp_path / "artifacts").exists()


def test_notes_are_kept(make_coco: Callable[..., Path], tmp_path: Path) -> None:
    done = import_dataset("coco", make_coco(), "mine", ReadOptions(), tmp_path)
    assert "the source has no splits" in done.source.notes[0]


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "x" * 65])
def test_names(make_voc: Callable[..., Path], tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="dataset name"):
        import_dataset("voc", make_voc(), name, ReadOptions(), tmp_path)


def test_what_is_not_there(make_voc: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="format 'kitti' is unknown; choose one of: voc, coco, yolo"):
        import_dataset("kitti", make_voc(), "mine", ReadOptions(), tmp_path)
    with pytest.raises(DatasetError, match="no such file or folder"):
        import_dataset("voc", tmp_path / "nowhere", "mine", ReadOptions(), tmp_path)
    with pytest.raises(DatasetError, match="'mine' is not registered; import it, or choose one of: none yet"):
        load_registered("mine", tmp_path)


def test_a_made_dataset_is_not_refreshed(make_voc: Callable[..., Path], tmp_path: Path) -> None:
    dataset = import_dataset("voc", make_voc(), "mine", ReadOptions(), tmp_path).dataset
    register(dataset, tmp_path, {}, tmp_path, source_format="scenes")
    with pytest.raises(DatasetError, match=r"was made \(scenes\)"):
        refresh("mine", tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"root": 3, "path": null, "notes": [], "options": {}, "format": ""}']
)
def test_a_damaged_source(make_voc: Callable[..., Path], tmp_path: Path, text: str) -> None:
    import_dataset("voc", make_voc(), "mine", ReadOptions(), tmp_path)
    (tmp_path / "datasets/mine/source.json").write_text(text)
    with pytest.raises(DatasetError, match=r"source\.json: is damaged .*import dataset mine again"):
        load_registered("mine", tmp_path)


def test_options_of_another_version(make_voc: Callable[..., Path], tmp_path: Path) -> None:
    import_dataset("voc", make_voc(), "mine", ReadOptions(), tmp_path)
    file = tmp_path / "datasets/mine/source.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"options": {"colour": 1}}))
    with pytest.raises(DatasetError, match="are not understood"):
        refresh("mine", tmp_path)


@pytest.mark.parametrize("change", [{"fractions": "ab"}, {"classes": 3}, {"seed": {}, "tolerance_px": "x"}])
def test_options_of_another_type(change: dict[str, Any]) -> None:
    with pytest.raises(DatasetError, match="are not understood"):
        ReadOptions.from_json(ReadOptions().to_json() | change)


def test_all_bad_options_at_once() -> None:
    with pytest.raises(DatasetError) as caught:
        ReadOptions(classes=("a", "a"), on_error="x", fractions={"train": 0.5}, tolerance_px=-1, max_pixels=0)
    assert [line.split(":")[0] for line in caught.value.problems] == [
        "classes",
        "fractions",
        "max_pixels",
        "on_error",
        "tolerance_px",
    ]
    with pytest.raises(DatasetError, match="needs a name and a share"):
        ReadOptions(fractions={"train": 1.5, "test": -0.5})


def test_a_removed_image_is_restored_or_refreshed_away(make_yolo: Callable[..., Path], tmp_path: Path) -> None:
    box = "0 .5 .5 .5 .5"
    root = make_yolo({"a": box, "b": box}, "train: images\nnames: [cat]")
    artifacts = tmp_path / "artifacts"
    record = import_dataset("yolo", root, "mine", ReadOptions(), artifacts).dataset.image("a")
    (root / "images/a.jpg").unlink()
    with pytest.raises(DatasetError) as caught:
        ImageSource.registered(artifacts / "datasets/mine").read(record)
    again = "restore it, or run `rcnn dataset refresh mine`"
    assert str(caught.value) == f"images/a.jpg: there is no such file in {root} any more; {again}"
    refreshed = refresh("mine", artifacts)
    assert [image.name for image in refreshed.dataset.images] == ["b"]
    assert refreshed.source.notes == ("1 label file has no image (such as labels/a.txt)",)


def test_images_are_checked_when_read(make_voc: Callable[..., Path], tmp_path: Path) -> None:
    dataset = import_dataset("voc", make_voc(), "mine", ReadOptions(), tmp_path / "artifacts").dataset
    source = ImageSource.registered(tmp_path / "artifacts/datasets/mine")
    record = dataset.images[0]
    path = source.root / record.file_name
    np.testing.assert_array_equal(source.read(record), decode_image(path.read_bytes(), "x"))
    Image.new("RGB", (40, 30)).save(path)
    with pytest.raises(
        DatasetError, match=r"a\.jpg: the file in .* changed since .*; restore it, or run `rcnn dataset refresh mine`"
    ):
        source.read(record)
    path.unlink()
    with pytest.raises(DatasetError) as caught:
        source.read(record)
    again = "restore it, or run `rcnn dataset refresh mine`"
    assert str(caught.value) == f"a.jpg: there is no such file in {source.root} any more; {again}"


def halved(make_voc: Callable[..., Path], tmp_path: Path) -> tuple[Path, Path]:
    """Register 4 images, two of train and two of test, and split train."""
    xml = {i: voc_xml(voc_object("cat", (1, 1, 10, 10))) for i in "abcd"}
    root, artifacts = make_voc(xml, splits={"train": "a\nb\n", "test": "c\nd\n"}), tmp_path / "artifacts"
    import_dataset("voc", root, "mine", ReadOptions(), artifacts)
    ids = [image.id for image in load_registered("mine", artifacts).dataset.split("train")]
    sides = (frozenset(ids[:1]), frozenset(ids[1:]))
    put_into_halves("mine", "mine", HalvedSplit(("one", "two"), "train"), sides, artifacts)
    return root, artifacts


def test_halves_outlive_a_refresh(make_voc: Callable[..., Path], tmp_path: Path) -> None:
    root, artifacts = halved(make_voc, tmp_path)
    before = load_registered("mine", artifacts)
    assert {s: [i.name for i in before.dataset.split(s)] for s in before.dataset.splits} == {
        "one": ["a"],
        "test": ["c", "d"],
        "train": ["a", "b"],
        "two": ["b"],
    }
    assert before.dataset.image("a").split == "one"
    assert refresh("mine", artifacts) == before
    (root / "ImageSets/Main/train.txt").write_text("a\nd\n")
    (root / "ImageSets/Main/test.txt").write_text("c\nb\n")
    after = refresh("mine", artifacts)
    assert [i.name for i in after.dataset.split("one")] == ["a"]
    assert "two" not in after.dataset.splits  # b is in train no more
    assert any("1 images are new and in neither one nor two" in note for note in after.source.notes)


def test_a_split_that_the_source_has_now(make_voc: Callable[..., Path], tmp_path: Path) -> None:
    root, artifacts = halved(make_voc, tmp_path)
    (root / "ImageSets/Main/one.txt").write_text("c\n")
    with pytest.raises(DatasetError, match="the source has a split 'one' of its own now"):
        refresh("mine", artifacts)


def test_halves_as_another_dataset(make_voc: Callable[..., Path], tmp_path: Path) -> None:
    _, artifacts = halved(make_voc, tmp_path)
    ids = [image.id for image in load_registered("mine", artifacts).dataset.images]
    sides = (frozenset(ids[:2]), frozenset(ids[2:]))
    put_into_halves("mine", "other", HalvedSplit(("x", "y"), None), sides, artifacts)
    assert load_registered("mine", artifacts).dataset.splits == ("one", "test", "train", "two")
    other = load_registered("other", artifacts)
    assert [i.name for i in other.dataset.split("y")] == ["c", "d"]
    assert other.source.halved == (HalvedSplit(("one", "two"), "train"), HalvedSplit(("x", "y"), None))
    assert ImageSource.registered(artifacts / "datasets/other").read(other.dataset.images[0]).shape == (30, 40, 3)
