"""Scored windows against a loop over windows, each cut out of its pooled map and passed through by itself."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from window_detectors import CLASSES, edge_regressor, picture, window_classifier

from cache.errors import StageError
from stages.dense.maps import DenseMapPass
from stages.dense.scales import scaled_px
from stages.dense.windows import DenseWindows, LastPooling
from stages.overfeat.classifier import DenseClassifier
from stages.overfeat.regressor import EdgeRegressor
from stages.overfeat.scorer import WindowScorer
from stages.overfeat.settings import SlideSettings
from stages.overfeat.windows import EVERY_CLASS, ScoredWindows

SIDE, STRIDE, OFFSETS = 64, 8, 2  # of the network's windows, px, and its last pooling's stride
WINDOWS = DenseWindows(SIDE, STRIDE, 8, LastPooling(4, 3, OFFSETS, 1))
SCALES = (80, 136, 184)
WIDTH, HEIGHT = 131, 97
Maps = Mapping[int, NDArray[Any]]


def maps_of(classifier: DenseClassifier, width: int = WIDTH, height: int = HEIGHT, storage: str = "float16") -> Maps:
    run = DenseMapPass(classifier.network, storage, "cpu")
    return {scale: run(picture(width, height), scale, "image") for scale in SCALES}


def scored(
    classifier: DenseClassifier,
    regressor: EdgeRegressor,
    maps: Maps,
    *,
    coarse: bool = False,
    k: int | None = None,
    dtype: str = "float32",
) -> ScoredWindows:
    settings = SlideSettings(stride="coarse" if coarse else "fine")
    return WindowScorer(classifier, regressor, settings, k, "cpu", dtype)(maps, WIDTH, HEIGHT, "image")


def cut_out(maps: Maps, scale: int, row: int, column: int) -> Tensor:
    """A window's pooled values [1, d]: a max over 3 x 3 cells at each of 4 x 4 places, 2 apart, from one before it."""
    fmap = torch.from_numpy(maps[scale]).float().permute(2, 0, 1)
    pooled = functional.max_pool2d(fmap[None], 3, stride=1, padding=1)
    return pooled[:, :, row : row + 8 : 2, column : column + 8 : 2].reshape(1, -1)


def size_at(scale: int) -> tuple[int, int]:
    """Width and height of the image there."""
    return scaled_px(WIDTH, HEIGHT, scale, WINDOWS)


def places() -> list[tuple[int, int, int]]:
    """The scale, row and column of every window: scale by scale and row by row."""
    found = []
    for scale in SCALES:
        columns, rows = ((side - SIDE) // STRIDE + 1 for side in size_at(scale))
        found += [(scale, row, column) for row, column in product(range(rows), range(columns))]
    return found


def test_windows_are_those_cut_out_of_the_pooled_map_one_by_one() -> None:
    classifier = window_classifier()
    regressor, maps = edge_regressor(classifier), maps_of(classifier)
    found = scored(classifier, regressor, maps)
    assert len(found) == len(places()) > 300  # more than one batch
    assert found.edge_classes.tolist() == [[EVERY_CLASS]] * len(found)
    fc = classifier.network.fc_graph(["fc8"])
    for at, (scale, row, column) in enumerate(places()):
        width, height = size_at(scale)
        pooled = cut_out(maps, scale, row, column)
        with torch.inference_mode():
            logits = next(iter(fc(pooled).values()))[0].double()
            moved = regressor.layers(pooled)[0].double().numpy() * regressor.std + regressor.mean
        probabilities = (logits.exp() / logits.exp().sum())[1:]  # background is first
        np.testing.assert_allclose(found.scores[at], probabilities, rtol=1e-4)
        x, y = STRIDE * column * WIDTH / width, STRIDE * row * HEIGHT / height
        w, h = SIDE * WIDTH / width, SIDE * HEIGHT / height
        np.testing.assert_allclose(found.windows[at], [x, y, x + w, y + h], rtol=1e-5, atol=1e-4)
        wanted = [x + moved[0] * w, y + moved[1] * h, x + moved[2] * w, y + moved[3] * h]
        np.testing.assert_allclose(found.edges[at, 0], wanted, rtol=1e-4, atol=1e-2)
        assert found.scale[at] == scale
    assert found.scores.std(axis=0).min() > 0.01 and found.edges.std(axis=0).min() > 1  # not all alike
    dtypes = {name: str(values.dtype) for name, values in found.arrays().items()}
    floats = dict.fromkeys(("windows", "scores", "edges"), "float32")
    assert dtypes == floats | dict.fromkeys(("scale", "edge_classes"), "int64") | {"coarse": "bool"}


def test_the_coarse_stride_takes_every_second_row_and_column() -> None:
    classifier = window_classifier()
    regressor, maps = edge_regressor(classifier), maps_of(classifier)
    fine, coarse = (scored(classifier, regressor, maps, coarse=stride) for stride in (False, True))
    those = [row % OFFSETS == 0 and column % OFFSETS == 0 for _, row, column in places()]
    assert 0 < len(coarse) < len(fine) / 3
    assert fine.coarse.tolist() == those and coarse.coarse.all()
    np.testing.assert_array_equal(coarse.windows, fine.windows[those])
    np.testing.assert_array_equal(coarse.scale, fine.scale[those])
    np.testing.assert_allclose(coarse.scores, fine.scores[those], rtol=1e-4)
    np.testing.assert_allclose(coarse.edges, fine.edges[those], rtol=1e-4, atol=1e-3)


def nearest_below(scale: int, row: int, column: int) -> tuple[int, int, int]:
    """Find the window of the next smaller scale whose centre is nearest in the image, in exact fractions."""
    below = SCALES[SCALES.index(scale) - 1]

    def centre(at: int, place: tuple[int, int]) -> list[Fraction]:
        sides = zip(place, (HEIGHT, WIDTH), size_at(at)[::-1], strict=True)
        return [Fraction((STRIDE * index + SIDE // 2) * length, scaled) for index, length, scaled in sides]

    own = centre(scale, (row, column))
    others = [(r, c) for at, r, c in places() if at == below]
    apart = [sum((a - b) ** 2 for a, b in zip(centre(below, other), own, strict=True)) for other in others]
    return below, *others[apart.index(min(apart))]


@pytest.mark.parametrize("coarse", [False, True])
def test_context_is_the_window_of_the_same_centre_one_scale_below(coarse: bool) -> None:
    """Looked at or not; at the smallest scale there is none, as in training."""
    classifier = window_classifier(context=True)
    maps = maps_of(classifier)
    found = scored(classifier, edge_regressor(classifier), maps, coarse=coarse)
    layers, step = classifier.fc_module().eval(), OFFSETS if coarse else 1
    looked_at = [(s, r, c) for s, r, c in places() if r % step == c % step == 0]
    seen = set()
    for at in range(0, len(looked_at), 7):
        scale, row, column = looked_at[at]
        own = cut_out(maps, scale, row, column)
        around = torch.zeros_like(own)
        if scale > SCALES[0]:
            near = nearest_below(scale, row, column)
            around = cut_out(maps, *near)
            seen.add(near)
        with torch.inference_mode():
            wanted = classifier.probabilities(layers(torch.cat([own, around], dim=1)))[0]
        np.testing.assert_allclose(found.scores[at], wanted, rtol=1e-4)
    assert len(seen) > 10
    alone = scored(window_classifier(), edge_regressor(classifier), maps, coarse=coarse)
    assert not np.allclose(found.scores, alone.scores, rtol=1e-2)


@pytest.mark.parametrize("k", [1, 2, 4, 9])
def test_regressors_by_class_are_asked_of_the_top_classes_of_each_scale(k: int) -> None:
    classifier = window_classifier()
    regressor, maps = edge_regressor(classifier, per_class=True), maps_of(classifier)
    every, found = (scored(classifier, regressor, maps, k=limit) for limit in (None, k))
    asked = min(k, len(CLASSES))
    assert every.edges.shape == (len(every), len(CLASSES), 4) and found.edges.shape == (len(every), asked, 4)
    assert (every.edge_classes == np.arange(len(CLASSES))).all()
    for scale in SCALES:
        those = np.flatnonzero(found.scale == scale)
        largest = [max(float(found.scores[row, label]) for row in those) for label in range(len(CLASSES))]
        top = sorted(range(len(CLASSES)), key=lambda label: -largest[label])[:asked]
        for row in those:
            assert found.edge_classes[row].tolist() == top
            np.testing.assert_allclose(found.edges[row], every.edges[row, top], rtol=1e-5, atol=1e-3)
    assert np.abs(np.diff(every.edges, axis=1)).max() > 5  # each class's own


def test_the_same_image_gives_the_same_bits_and_arithmetic_counts() -> None:
    classifier = window_classifier()
    regressor, maps = edge_regressor(classifier), maps_of(classifier)
    one, again = (scored(classifier, regressor, maps) for _ in range(2))
    for name, values in one.arrays().items():
        np.testing.assert_array_equal(values, again.arrays()[name])
    rough = scored(classifier, regressor, maps, dtype="bfloat16")
    assert not np.array_equal(rough.scores, one.scores) and not np.array_equal(rough.edges, one.edges)
    np.testing.assert_allclose(rough.scores, one.scores, atol=0.05)
    np.testing.assert_allclose(rough.edges, one.edges, atol=3)


@pytest.mark.parametrize(("width", "height"), [(20, 400), (9, 7), (64, 64), (301, 222)])
def test_every_window_of_a_map_is_numbered_whatever_the_image(width: int, height: int) -> None:
    """An image smaller than a window, and a strip, too: maps have as many windows as are scored."""
    classifier = window_classifier()
    maps = maps_of(classifier, width, height)
    scorer = WindowScorer(classifier, edge_regressor(classifier), SlideSettings(), None, "cpu")
    found = scorer(maps, width, height, "image")
    assert len(found) == sum((fmap.shape[0] - 7) * (fmap.shape[1] - 7) for fmap in maps.values())
    assert found.windows.min() >= 0
    assert (found.windows[:, 2:] <= np.array([width, height]) * (1 + 1e-6)).all()


@pytest.mark.parametrize("what", ["finetune_dense", "regress"])
def test_what_is_not_a_number_is_refused(what: str) -> None:
    classifier = window_classifier()
    regressor, maps = edge_regressor(classifier), maps_of(classifier)
    with torch.no_grad():
        if what == "finetune_dense":
            next(classifier.network.classifier_parameters())[0, 0] = torch.nan
        else:
            regressor = replace(regressor, mean=np.array([0, np.inf, 0, 0]))
    with pytest.raises(StageError, match=rf"^image: {what} gives what is not a number; lower {what}.lr"):
        scored(classifier, regressor, maps)
