"""Error rates: averaged scores and ranks against slow loops, and the stage over a real store and dataset."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from network_parts import trunk_of
from numpy.typing import NDArray
from PIL import Image
from plain_arrays import as_boxes, as_labels
from stage_context import StageContext

from cache.errors import StageError
from manifests import Dataset, ImageRecord, ImageSource, ReadOptions, import_dataset
from stages.classification.scoring import METHODS, error_rates, mean_scores, rank
from stages.classification.settings import ClassifySettings
from stages.networks.network import build
from stages.networks.weights import class_names_meta, save_weights

CLASSES = ("ant", "bee", "cow", "dog", "elk", "fox")


def test_methods_have_the_views_of_the_paper() -> None:
    assert {name: len(views) for name, views in METHODS.items()} == {
        "1_crop": 1,
        "10_crops": 10,
        "1_full": 1,
        "8_crops_2_full": 10,
    }
    crops, both = set(METHODS["10_crops"]), set(METHODS["8_crops_2_full"])
    assert crops - both == {4, 9}  # the two centre crops
    assert both - crops == {10, 11}


@given(st.lists(st.lists(st.floats(-50, 50), min_size=4, max_size=4), min_size=1, max_size=5))
def test_scores_are_means_of_softmaxes(rows: list[list[float]]) -> None:
    expected = [0.0] * 4
    for row in rows:
        total = math.fsum(math.exp(v) for v in row)
        expected = [e + math.exp(v) / total / len(rows) for e, v in zip(expected, row, strict=True)]
    views = range(3, 3 + len(rows))
    np.testing.assert_allclose(mean_scores(np.array(rows), views, list(views)[::-1]), expected, rtol=1e-9)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.data())
def test_rank_is_the_place_in_a_stable_sort(scores: list[int], data: st.DataObject) -> None:
    label = data.draw(st.integers(0, len(scores) - 1))
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    assert rank(np.array(scores, float), label) == order.index(label)


def test_error_rates_by_hand() -> None:
    assert error_rates([0, 0, 1, 4, 5, 9, 0, 0], 10) == {"top1_error": 50.0, "top5_error": 25.0}
    assert error_rates([0, 4], 5) == {"top1_error": 50.0, "top5_error": None}


class World(StageContext):
    """A project with class folders of six classes and weights."""

    def __init__(self, root: Path, pyramid: tuple[int, ...] | None = (2, 1), **settings: Any) -> None:
        super().__init__(root, "classify", {"classify": ClassifySettings(**settings)})
        rng = np.random.default_rng(1)
        for i in range(18):
            file = root / "pictures" / ("test" if i < 12 else "train") / CLASSES[i % 6] / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            blobs = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8))  # unlike each other, unlike noise
            blobs.resize((80 - 2 * i, 40 + 3 * i), Image.Resampling.NEAREST).save(file)
        made = import_dataset("folders", root / "pictures", "toy", ReadOptions(), root / "artifacts")
        self._dataset, self.image = made.dataset, ImageSource(made.source.root).read
        self.network = build("small", 7, pyramid=pyramid, generator=torch.Generator().manual_seed(2)).eval()
        with torch.no_grad():
            trunk_of(self.network).classifier[-1].weight.mul_(8)  # so that views disagree
        self.outputs = ("zoo", *reversed(CLASSES))
        self.save_weights(self.outputs)

    def save_weights(self, outputs: Sequence[str] | None) -> None:
        """As if trained for ``outputs``; None: a file that does not name them."""
        save_weights(self.place("weights"), self.network, class_names_meta(outputs))

    def report(self) -> dict[str, Any]:
        self.run()
        report: dict[str, Any] = json.loads(self.output("report").read_text())
        return report


def slow_report(world: World, short_side: int) -> dict[str, dict[str, float]]:
    """Every view of every picture through the bare torch network, one at a time; softmax and sorting by torch."""
    wrong: dict[str, list[tuple[bool, bool]]] = {"1_crop": [], "10_crops": [], "1_full": [], "8_crops_2_full": []}
    columns = [world.outputs.index(label) for label in CLASSES]
    for file in sorted((world.root / "pictures/test").rglob("*.png")):
        image: NDArray[Any] = (np.asarray(Image.open(file), np.float32) / 255 - 0.5) / 0.25
        h, w = image.shape[:2]
        shape = (int(w * short_side / min(h, w) + 0.5), int(h * short_side / min(h, w) + 0.5))
        image = cv2.resize(image, shape, interpolation=cv2.INTER_LINEAR)
        h, w = image.shape[:2]
        corners = [image[:64, :64], image[:64, w - 64 :], image[h - 64 :, :64], image[h - 64 :, w - 64 :]]
        top, left = (h - 64) // 2, (w - 64) // 2
        centre = image[top : top + 64, left : left + 64]

        def probabilities(view: np.ndarray) -> torch.Tensor:
            pixels = torch.from_numpy(np.ascontiguousarray(view.transpose(2, 0, 1)))[None]
            with torch.no_grad():
                return torch.softmax(world.network.trunk(pixels).double(), 1)[0]

        def both(views: list[np.ndarray]) -> list[np.ndarray]:
            return views + [np.fliplr(view) for view in views]

        ways = {"1_crop": [centre], "10_crops": both([*corners, centre])}
        ways |= {"1_full": [image], "8_crops_2_full": both([*corners, image])}
        label = CLASSES.index(file.parent.name)
        for name, views in ways.items():
            best = torch.stack([probabilities(v) for v in views]).mean(0)[columns].argsort(descending=True).tolist()
            wrong[name].append((label not in best[:1], label not in best[:5]))
    return {
        name: dict(zip(("top1_error", "top5_error"), (np.mean(rows, axis=0) * 100).tolist(), strict=True))
        for name, rows in wrong.items()
    }


def test_errors_are_those_of_a_slow_loop_over_the_bare_network(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    world = World(tmp_path)
    report = world.report()
    assert (report.pop("pictures"), report.pop("classes")) == (12, 6)
    assert world.listed().summary["short_side_px"] == 73  # 8/7 of 64
    expected = slow_report(world, 73)
    assert report == {name: pytest.approx(rates) for name, rates in expected.items()}
    assert len({json.dumps(rates) for rates in expected.values()}) == 3  # the ways differ, or this shows nothing
    assert sum("top-1 error" in line for line in world.log.infos) == 4
    assert len(world.listed().entries) == 12


def test_a_second_run_computes_nothing_and_another_scale_everything(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.run()
    first = world.output("report").read_bytes()
    world.run()
    assert len(world.computed) == 12
    assert world.output("report").read_bytes() == first
    world.change(classify=ClassifySettings(short_side_px=90))
    world.run()
    assert len(world.computed) == 24


def test_without_a_pyramid_only_crops_are_tested_and_full_views_are_refused(tmp_path: Path) -> None:
    world = World(tmp_path, pyramid=None)
    assert set(world.report()) == {"pictures", "classes", "1_crop", "10_crops"}
    world.change(classify=ClassifySettings(views=("1_full",)))
    with pytest.raises(StageError, match="classify: full pictures have many sizes"):
        world.run()


def test_one_way_is_one_view(tmp_path: Path) -> None:
    world = World(tmp_path, views=("1_full",))
    world.run()
    assert world.store.get("classify", world.listed().entries[0][1], ["fc8"]).arrays["fc8"].shape == (1, 7)


def test_weights_of_other_classes_and_datasets_with_boxes_are_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.save_weights(("zoo", "ant", "bee", "cow", "dog", "elk", "gnu"))
    with pytest.raises(StageError, match=r"weights\.safetensors: has no output for fox; train it on dataset toy"):
        world.run()
    world.save_weights(None)
    with pytest.raises(StageError, match=r"weights\.safetensors: does not say what its outputs are"):
        world.run()
    boxed = ImageRecord(1, "a.png", 9, 9, "0" * 64, "test", as_boxes([[0, 0, 5, 5]]), as_labels([0]))
    world._dataset = Dataset("d", ("x",), (boxed,))
    with pytest.raises(StageError, match="dataset d has boxes and not one class per picture"):
        world.run()
