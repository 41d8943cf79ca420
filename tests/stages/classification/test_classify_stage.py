"""Error rates: averaged scores and ranks against slow loops, and the stage over a real store and dataset."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest
import torch
from classify_world import CLASSES, World
from hypothesis import given
from hypothesis import strategies as st
from network_parts import trunk_of
from numpy.typing import NDArray
from PIL import Image
from plain_arrays import as_boxes, as_labels

from cache import Artifact
from cache.errors import StageError
from manifests import Dataset, ImageRecord
from stages.classification.scoring import DENSE, METHODS, dense_scores, error_rates, mean_scores, rank, window_scores
from stages.classification.settings import ClassifySettings, Method
from stages.graph import STAGES
from stages.networks.network import build
from stages.settings import Parameters

STRIP = ImageRecord(99, "strip.png", 20, 4000, "0" * 64, "test", as_boxes([]), as_labels([]), category=0)


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


def test_window_scores_by_hand() -> None:
    """Two flips of 3 x 3 windows, two classes, p = 2: the coarse stride sees rows and columns 0 and 2."""
    first = np.array([[0.1, 0.9, 0.2], [0.6, 0.95, 0.3], [0.4, 0.05, 0.5]])  # of class 0, the picture
    second = np.array([[0.5, 0.5, 0.5], [0.5, 0.7, 0.5], [0.5, 0.2, 0.25]])  # its mirror image
    chances = np.stack([first, second])
    found = window_scores(np.log(np.stack([chances, 1 - chances], axis=-1)) + 3.0, 2)
    np.testing.assert_allclose(found["fine"], [[0.95, 0.95], [0.7, 0.8]])
    np.testing.assert_allclose(found["coarse"], [[0.5, 0.9], [0.5, 0.75]])


def test_dense_scores_are_means_over_scales_and_flips() -> None:
    """Not weighted by windows: each scale and flip counts once."""
    scales = [
        {"fine": np.array([[0.9, 0.2], [0.7, 0.4]]), "coarse": np.array([[0.8, 0.1], [0.6, 0.0]])},
        {"fine": np.array([[0.1, 1.0], [0.5, 0.2]]), "coarse": np.array([[0.0, 0.5], [0.2, 0.2]])},
    ]
    for name, expected in {
        "dense_fine": [0.55, 0.45],
        "dense_coarse": [0.4, 0.2],
        "dense_fine_unmirrored": [0.5, 0.6],
        "dense_coarse_unmirrored": [0.4, 0.3],
    }.items():
        np.testing.assert_allclose(dense_scores(scales, DENSE[name]), expected)
    assert set(DENSE) | set(METHODS) == set(get_args(Method))


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


def slow_dense_report(world: World, sizes: dict[int, dict[str, tuple[int, int]]]) -> dict[str, Any]:
    """Fine windows by torch alone: p x p offsets of the map, each pooled as the network does, one window at a time.

    ``sizes`` are the scaled pictures' (width, height) by scale and file name. The network pads its last map before
    pooling by a cell; so does this, once for all offsets.
    """
    trunk, columns = trunk_of(world.network), [world.outputs.index(label) for label in CLASSES]
    wrong: dict[str, list[tuple[bool, bool]]] = {name: [] for name in DENSE}
    for file in sorted((world.root / "pictures/test").rglob("*.png")):
        pixels: NDArray[Any] = (np.asarray(Image.open(file), np.float32) / 255 - 0.5) / 0.25
        best: dict[str, list[torch.Tensor]] = {name: [] for name in DENSE}
        for by_file in sizes.values():
            resized = cv2.resize(pixels, by_file[file.name], interpolation=cv2.INTER_LINEAR)
            for mirrored in (False, True):
                view = np.ascontiguousarray((np.fliplr(resized) if mirrored else resized).transpose(2, 0, 1))
                with torch.no_grad():
                    fmap = trunk.features[:12](torch.from_numpy(view)[None])
                    padded = torch.nn.functional.pad(fmap, (1, 1, 1, 1), value=-torch.inf)
                    _, _, height, width = fmap.shape
                    windows = [
                        (y, x, torch.nn.functional.max_pool2d(padded[:, :, y : y + 9, x : x + 9], 3, 2))
                        for y in range(height - 7)
                        for x in range(width - 7)
                    ]
                    logits = [(y, x, trunk.classifier(pooled.flatten(1)).double()[0]) for y, x, pooled in windows]
                chances = [(y, x, torch.softmax(values, 0)) for y, x, values in logits]
                fine = torch.stack([p for _, _, p in chances]).amax(0)
                coarse = torch.stack([p for y, x, p in chances if y % 2 == 0 and x % 2 == 0]).amax(0)
                for name, maxima in (("fine", fine), ("coarse", coarse)):
                    best[f"dense_{name}"].append(maxima)
                    if not mirrored:
                        best[f"dense_{name}_unmirrored"].append(maxima)
        label = CLASSES.index(file.parent.name)
        for name, maxima_of in best.items():
            order = torch.stack(maxima_of).mean(0)[columns].argsort(descending=True).tolist()
            wrong[name].append((label not in order[:1], label not in order[:5]))
    return {
        name: dict(zip(("top1_error", "top5_error"), (np.mean(rows, axis=0) * 100).tolist(), strict=True))
        for name, rows in wrong.items()
    }


def dense_sizes(scale: int) -> dict[str, tuple[int, int]]:
    """The pictures' scaled sizes: 72 + 16 m px nearest to the scale, and nearest to as much larger a side."""

    def nearest(length: float) -> int:
        return min(range(72, 400, 16), key=lambda px: abs(px - length))

    sizes = {f"{i}.png": (80 - 2 * i, 40 + 3 * i) for i in range(12)}
    return {
        name: (nearest(width * scale / min(width, height)), nearest(height * scale / min(width, height)))
        for name, (width, height) in sizes.items()
    }


def test_dense_errors_are_those_of_a_slow_loop(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    world = World(tmp_path, None, views=(*DENSE, "1_crop"), scales_px=(72, 100))
    report = world.report()
    assert (report.pop("pictures"), report.pop("classes")) == (12, 6)
    assert set(report.pop("1_crop")) == {"top1_error", "top5_error"}
    expected = slow_dense_report(world, {scale: dense_sizes(scale) for scale in (72, 100)})
    assert report == {name: pytest.approx(rates) for name, rates in expected.items()}
    assert len({json.dumps(rates) for rates in expected.values()}) > 1  # the ways differ, or this shows nothing


def lists_of(world: World) -> dict[str, Artifact]:
    """The lists of dense views, by their files' names."""
    return {path.name: Artifact.read(path) for path in world.output("dense").glob("*.json")}


def told_scales(world: World) -> list[str]:
    return (world.output("dense") / "scales_px.txt").read_text().splitlines()


def test_each_scale_is_computed_once_whatever_is_asked_of_it(tmp_path: Path) -> None:
    world = World(tmp_path, None, views=("dense_coarse",), scales_px=(72,))
    world.run()
    assert len(world.computed) == 12 and world.listed().entries == ()
    world.change(classify=ClassifySettings(views=("dense_fine", "dense_fine_unmirrored"), scales_px=(72,)))
    world.run()
    assert len(world.computed) == 12
    world.change(classify=ClassifySettings(views=("dense_fine", "dense_coarse"), scales_px=(88, 72)))
    world.run()
    assert len(world.computed) == 24
    lists = lists_of(world)
    assert set(lists) == {"72.json", "88.json"} and told_scales(world) == ["88", "72"]
    keys = {key for one in lists.values() for _, key in one.entries}
    assert len(keys) == 24 and all(world.store.has("classify", key) for key in keys)
    assert lists["88.json"].summary["scale_px"] == 88
    world.change(classify=ClassifySettings(views=("1_crop",)))  # an object of its own, as ever
    world.run()
    assert len(world.computed) == 36


def test_dense_views_are_asked_for_and_change_no_key_of_others(tmp_path: Path) -> None:
    world = World(tmp_path, None)
    assert set(world.report()) == {"pictures", "classes", "1_crop", "10_crops"}
    first = world.listed()
    assert not lists_of(world) and told_scales(world) == ["classify.views lists no dense view"]
    world.change(classify=ClassifySettings(views=("1_crop", "10_crops", "dense_fine"), scales_px=(72,)))
    world.run()
    assert world.listed().entries == first.entries
    assert first.summary["short_side_px"] == 73 and "scale_px" not in first.summary


def test_scales_that_are_one_are_told(tmp_path: Path) -> None:
    """Sides go to the nearest of 72 + 16 m px."""
    world = World(tmp_path, None, views=("dense_fine",), scales_px=(88, 73, 72))
    world.run()
    assert world.log.warnings == [
        "classify.scales_px: 72 and 73 bring every picture to the same size, which counts twice; leave one out"
    ]


def test_the_default_scales_are_the_papers_in_the_networks_own_steps(tmp_path: Path) -> None:
    world = World(tmp_path, None, views=("dense_fine",))
    world.run()
    assert set(lists_of(world)) == {f"{72 + 16 * m}.json" for m in (0, 1, 2, 4, 5, 6)}


def test_dense_views_that_cannot_be_are_one_line(tmp_path: Path) -> None:
    world = World(tmp_path, (2, 1), views=("dense_fine",), scales_px=(72, 60))
    with pytest.raises(StageError, match=r"^classify\.views: network small has a pyramid of \[2, 1\], and"):
        world.run()
    world.network = build("small", 7, generator=torch.Generator().manual_seed(2)).eval()
    world.save_weights(world.outputs)
    with pytest.raises(StageError, match=r"^classify\.scales_px: 60 px is less than a window's 64; leave it out"):
        world.run()
    world.change(classify=ClassifySettings(views=("dense_fine",), scales_px=(200, 72)))
    strips = [replace(STRIP, id=i, file_name=f"{i}.png") for i in range(90, 102)]
    world._dataset = replace(world._dataset, images=(*world._dataset.images, *strips))
    with pytest.raises(StageError) as caught:
        world.run()
    first, *more, last = str(caught.value).splitlines()
    assert first == (
        "90.png: 20 x 4000 px would be 200 x 40008 at scale 200, more than 4,194,304 pixels; leave it out or "
        "choose smaller scales"
    )
    assert [line.partition(":")[0] for line in more] == [f"{i}.png" for i in range(91, 100)]
    assert last == "and 2 more pictures"
    assert not world.computed
    with pytest.raises(ValueError, match="an entry is listed twice"):
        ClassifySettings(scales_px=(72, 72))


def test_scales_without_a_dense_view_are_told() -> None:
    def told(**settings: Any) -> list[str]:
        check = STAGES["classify"].check
        assert check is not None
        return list(check(Parameters({"classify": ClassifySettings(**settings)})))

    assert told(scales_px=(72,), views=("1_crop",)) == told(scales_px=(72,))
    assert told(scales_px=(72,))[0].startswith("classify.scales_px: is for dense views, and classify.views lists none")
    assert not told() and not told(scales_px=(72,), views=("1_crop", "dense_coarse_unmirrored"))
