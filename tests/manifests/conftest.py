"""Small datasets on disk, in the forms that users have them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from dataset_files import jpeg, voc_object, voc_xml


@pytest.fixture
def make_voc(tmp_path: Path) -> Callable[..., Path]:
    """Write a VOC folder of 40 x 30 images: XML text and image bytes by id, ids by split file name."""

    def make(
        xml: Mapping[str, str | bytes] | None = None,
        images: Mapping[str, bytes] | None = None,
        splits: Mapping[str, str] | None = None,
        folder: str = "voc",
    ) -> Path:
        if xml is None:
            xml = {
                i: voc_xml(voc_object("cat", (1, 1, 10, 10)) + voc_object("dog", (11, 5, 40, 30))) for i in ("a", "b")
            }
        if images is None:
            images = {f"{image_id}.jpg": jpeg(seed=n) for n, image_id in enumerate(xml)}
        root = tmp_path / folder
        for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (root / name).mkdir(parents=True)
        for image_id, text in xml.items():
            data = text if isinstance(text, bytes) else text.encode()
            (root / "Annotations" / f"{image_id}.xml").write_bytes(data)
        for file_name, data in images.items():
            (root / "JPEGImages" / file_name).write_bytes(data)
        for split, text in ({"train": "a\n", "test": "b\n"} if splits is None else splits).items():
            (root / "ImageSets" / "Main" / f"{split}.txt").write_text(text)
        return root

    return make


@pytest.fixture
def make_coco(tmp_path: Path) -> Callable[..., Path]:
    """Write a COCO folder of two 40 x 30 images with ``instances.json``; keywords replace its parts."""

    def make(**parts: Any) -> Path:
        root = tmp_path / "coco"
        (root / "images").mkdir(parents=True)
        for n, name in enumerate(("a.jpg", "b.jpg")):
            (root / "images" / name).write_bytes(jpeg(seed=n))
        document = {
            "images": [
                {"id": 7, "file_name": "a.jpg", "width": 40, "height": 30},
                {"id": 3, "file_name": "b.jpg", "width": 40, "height": 30},
            ],
            "annotations": [
                {"id": 1, "image_id": 7, "category_id": 5, "bbox": [1.5, 2.25, 10.5, 20], "iscrowd": 0, "area": 12.5}
                | {"segmentation": [[1.5, 2.25, 12, 2.25, 12, 22.25]]},
                {"id": 2, "image_id": 3, "category_id": 2, "bbox": [0, 0, 40, 30], "iscrowd": 1, "area": 600}
                | {"segmentation": {"counts": [0, 1200], "size": [30, 40]}},
            ],
            "categories": [{"id": 5, "name": "dog"}, {"id": 2, "name": "cat"}],
        } | parts
        (root / "instances.json").write_text(json.dumps(document))
        return root

    return make


@pytest.fixture
def make_yolo(tmp_path: Path) -> Callable[..., Path]:
    """Write a YOLO folder: label text by image path below images/, and optional data.yaml or classes.txt text."""

    def make(labels: Mapping[str, str | None], yaml: str | None = None, classes: str | None = None) -> Path:
        root = tmp_path / "yolo"
        for n, (stem, text) in enumerate(labels.items()):
            image, label = root / "images" / f"{stem}.jpg", root / "labels" / f"{stem}.txt"
            image.parent.mkdir(parents=True, exist_ok=True)
            label.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(jpeg(seed=n))
            if text is not None:
                label.write_text(text)
        if yaml is not None:
            (root / "data.yaml").write_text(yaml)
        if classes is not None:
            (root / "classes.txt").write_text(classes)
        return root

    return make
