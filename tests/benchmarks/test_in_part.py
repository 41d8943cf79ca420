"""What is drawn for the measurement of images annotated in part, and that both imports see the same pictures."""

import numpy as np
from pycocotools.coco import COCO

from benchmarks.in_part import coco_of, drawn
from manifests import Dataset, ImageRecord


def dataset() -> Dataset:
    """Forty images of one to six objects, every fourth to test on."""
    images = []
    for number in range(1, 41):
        n = 1 + number % 6
        boxes = np.array([[i, 2 * i, i + 10, 2 * i + 5] for i in range(n)], np.float32)
        labels, split = np.arange(n) % 2, "train" if number % 4 else "test"
        images.append(ImageRecord(number, f"{number}.png", 60, 50, f"{number:064x}", split, boxes, labels))
    return Dataset("d", ("a", "b"), tuple(images))


def test_half_of_the_training_images_lose_two_objects_in_three() -> None:
    kept = drawn(dataset(), 10, np.random.default_rng(4))
    assert [len(kept[split]) for split in ("whole", "part", "test")] == [5, 5, 10]
    for split in ("whole", "test"):
        assert all(rows == list(range(len(image.boxes))) for image, rows in kept[split])
    for image, rows in kept["part"]:
        assert len(rows) == max(1, round(len(image.boxes) / 3)) and set(rows) <= set(range(len(image.boxes)))
    assert {image.split for image, _ in [*kept["whole"], *kept["part"]]} == {"train"}
    assert len({image.id for images in kept.values() for image, _ in images}) == 20
    again = drawn(dataset(), 10, np.random.default_rng(4))
    assert [[(one.id, rows) for one, rows in kept[s]] for s in kept] == [
        [(o.id, r) for o, r in again[s]] for s in again
    ]


def test_cocos_own_reader_finds_the_boxes() -> None:
    images = drawn(dataset(), 10, np.random.default_rng(4))["part"]
    coco = COCO()
    coco.dataset = coco_of(dataset(), images)
    coco.createIndex()
    for image, rows in images:
        found = coco.loadAnns(coco.getAnnIds(image.id))
        assert [one["bbox"] for one in found] == [[i, 2 * i, 10, 5] for i in rows]
        assert [coco.cats[one["category_id"]]["name"] for one in found] == ["ab"[i % 2] for i in rows]
