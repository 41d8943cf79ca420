"""Region networks on images that no data set should hold and many do: what can be learned is, the rest is one line."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from tiny_project import StageServer, change, region_nodes, run_of, whole_objects

from cache import Artifact, Store
from cache.maintenance import verify

CLASSES = ("one", "seven", "nine", "speck")
SHORT_PX, LONG_PX = 96, 2000
NAME = "odd"


@dataclass(frozen=True)
class Odd:
    """An image of noise: its sides, its objects as (class, x, y, width, height), whether these are difficult."""

    width: int
    height: int
    objects: Sequence[tuple[str, float, float, float, float]] = ()
    difficult: bool = False


PLAIN = Odd(120, 90, [("one", 10, 10, 40, 40), ("seven", 60, 30, 30, 50)])
# class nine has no object that is trained on
DIFFICULT = Odd(110, 90, [("one", 20, 20, 50, 50), ("nine", 60, 30, 30, 50)], difficult=True)
EMPTY = Odd(100, 80)
STRIP = Odd(20, 2000, [("one", 2, 300, 16, 400)])  # smaller than every anchor, which are 24 px and more
TRAIN = {
    "plain": PLAIN,
    "dot": Odd(1, 1),
    "strip": STRIP,
    "wide": Odd(2000, 20, [("seven", 100, 0, 40, 20)]),
    "empty": EMPTY,
    "difficult": DIFFICULT,
    "speck": Odd(120, 90, [("speck", 50.0, 40.0, 2.0, 2.0)]),  # which no anchor reaches
    "crowded": Odd(200, 150, [("one", 10.0 * (i % 20), 10.0 * (i // 20), 10.0, 10.0) for i in range(300)]),
}
TEST = {
    "test-plain": Odd(120, 90, [("one", 10, 10, 40, 40), ("nine", 60, 30, 30, 50)]),
    "test-dot": Odd(1, 1),
    "test-strip": STRIP,
    "test-empty": EMPTY,
    "test-difficult": DIFFICULT,
}


def use(server: StageServer, project: Path, train: dict[str, Odd], test: dict[str, Odd]) -> None:
    """Write the images in COCO's form, import them and make them the project's dataset."""
    folder = project / "pictures"
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)]
    rng = np.random.default_rng(0)
    (folder / "annotations").mkdir(parents=True)
    for split, images in (("train", train), ("test", test)):
        (folder / f"{split}2017").mkdir()
        rows: list[dict[str, Any]] = []
        objects: list[dict[str, Any]] = []
        for name, image in images.items():
            number = len(rows) + 1000 * (split == "test") + 1
            pixels = rng.integers(0, 256, (image.height, image.width, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{split}2017" / f"{name}.png")
            rows.append({"id": number, "file_name": f"{name}.png", "width": image.width, "height": image.height})
            for label, *box in image.objects:
                category, area = CLASSES.index(label) + 1, box[2] * box[3]
                one = {"id": len(objects) + 1, "image_id": number, "category_id": category, "bbox": box, "area": area}
                objects.append(one | {"iscrowd": 0, "difficult": int(image.difficult)})
        document = {"images": rows, "annotations": objects, "categories": categories}
        (folder / f"annotations/instances_{split}2017.json").write_text(json.dumps(document))
    imported = server.run(project, "dataset", "import", "coco", str(folder), "--name", NAME)
    assert imported.status == 0, imported.said
    # pre-trained on what it is pre-trained on already: that comes from the store
    shutil.copy(project / "artifacts/datasets/scenes/classification.npz", project / f"artifacts/datasets/{NAME}")
    params: dict[str, Any] = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    params["dataset"], params["manifest"]["classes"] = (
        NAME,
        sorted({one[0] for image in train.values() for one in image.objects}),
    )
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    run(server, project, "manifest")


def run(server: StageServer, project: Path, *nodes: str) -> str:
    """Run nodes that must end well; what they say."""
    done = server.run(project, *run_of(*nodes))
    assert done.status == 0, done.said
    return done.said


@pytest.mark.parametrize("detector", ["steps", "once"])
def test_odd_images_are_trained_on_and_searched(server: StageServer, regions: Path, detector: str) -> None:
    use(server, regions, TRAIN, TEST)
    change(regions, detector, "maps", short_px=SHORT_PX, long_px=LONG_PX)
    for group in ("rpn", "fast") if detector == "steps" else ("joint",):  # every image comes once
        change(regions, detector, group, iterations=len(TRAIN), checkpoint_every=100, mirror=False)
    nodes = region_nodes(detector)
    said = run(server, regions, *nodes[: nodes.index(f"{detector}/combine")])
    assert "class 'speck': 1 of 1 objects have no anchor with an IoU above 0.5" in said
    if detector == "steps":
        assert "class 'nine' has no foreground region: it cannot be learned" in said
        run(server, regions, *nodes[nodes.index("steps/combine") :])
        figures = json.loads((regions / "reports/steps/scores.json").read_text())
        assert 0 <= figures["voc2010"]["mAP"] <= 1
    artifacts = regions / f"artifacts/detectors/{detector}"
    found, store = Artifact.read(artifacts / "roi_detect/manifest.json"), Store(regions / "artifacts")
    assert len(found.keys) == len(TEST)
    sides = {name: (image.width, image.height) for name, image in TEST.items()}
    for key in found.keys.values():
        stored = store.get(found.stage, key)
        width, height = sides[Path(stored.attrs["image"]).stem]
        boxes, scores = stored.arrays["bbox.boxes"], stored.arrays["bbox.scores"]
        assert np.isfinite(boxes).all() and np.isfinite(scores).all()
        assert (boxes >= 0).all() and (boxes[:, 2::2] <= width).all() and (boxes[:, 3::2] <= height).all()
    assert verify(store).problems == ()


@pytest.mark.parametrize(
    ("train", "refused"),
    [
        (
            {"difficult": DIFFICULT, "empty": EMPTY},
            {
                "steps/rpn_1": "or set rpn.difficult to true if all are marked difficult",
                "once/joint": "or set rpn.difficult to true if all are marked difficult",
                "plain/fast": "or set fast.difficult to true if all are marked difficult",
            },
        ),
        (
            {"plain": PLAIN, "strip": STRIP},  # scaled to 2 x 160 px
            {
                "once/joint": "strip.png: alexnet has no feature map left of an image scaled to 2 x 160 px",
                "plain/fast": "strip.png: alexnet has no feature map left of an image scaled to 2 x 160 px",
            },
        ),
    ],
    ids=["only difficult ones", "no map"],
)
def test_images_that_nothing_can_be_learned_of_are_one_line(
    server: StageServer, regions: Path, train: dict[str, Odd], refused: dict[str, str]
) -> None:
    use(server, regions, train, {"test-plain": TEST["test-plain"]})
    run(server, regions, "proposals")
    for node, said in refused.items():
        detector = node.split("/")[0]
        if "alexnet" in said:  # small has a map of every image
            change(regions, detector, "network", name="alexnet", fc=[8, 8], pyramid=[2])
            change(regions, detector, "pretrain", iterations=1, batch=2)
        run(server, regions, f"{detector}/pretrain")
        before = whole_objects(regions)
        answer = server.run(regions, *run_of(node))
        assert answer.status == 2, answer.said
        assert said in answer.said.splitlines()[-1] and "Traceback" not in answer.said
        assert whole_objects(regions) == before
    assert verify(Store(regions / "artifacts")).problems == ()
