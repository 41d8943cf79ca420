"""The box regressor: edges in a window's frame and back, what it answers by hand, and its file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dense_images import CLASSES, small
from edited_weights import edited, without
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from cache.errors import StageError
from stages.networks.weights import save_weights
from stages.overfeat.regressor import (
    EdgeRegressor,
    decode_edges,
    edge_layers,
    encode_edges,
    load_regressor,
    new_edge_layers,
    save_regressor,
)

LENGTH, UNITS = 24, (8, 6)
MEAN, STD = np.array([0.1, 0.2, 0.8, 0.9]), np.array([0.2, 0.3, 0.4, 0.5])
BOX = st.tuples(*[st.floats(-50, 500)] * 2, *[st.floats(4, 300)] * 2).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear_of(layers: nn.Sequential) -> list[nn.Linear]:
    return [one for one in layers if isinstance(one, nn.Linear)]


def regressor(*, per_class: bool = False) -> EdgeRegressor:
    layers = new_edge_layers(LENGTH, UNITS, 8 if per_class else 4, seeded())
    with torch.no_grad():
        linear_of(layers)[-1].weight.normal_(0, 1, generator=seeded(1))
    return EdgeRegressor(layers, MEAN, STD, CLASSES, per_class, "d" * 64)


def pooled(count: int) -> Tensor:
    return torch.rand(count, LENGTH, generator=seeded(2))


def places(count: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    corner = rng.uniform(0, 50, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(20, 90, (count, 2))], 1).astype(np.float32)


def test_edges_by_hand() -> None:
    windows = np.array([[10, 20, 50, 40], [10, 20, 50, 40]], np.float32)
    objects = np.array([[10, 20, 50, 40], [20, 15, 70, 35]], np.float32)
    by_hand = np.array([[0, 0, 1, 1], [0.25, -0.25, 1.5, 0.75]])
    np.testing.assert_allclose(encode_edges(windows, objects), by_hand)


@given(st.lists(st.tuples(BOX, BOX), min_size=1, max_size=5))
def test_edges_come_back_as_the_object(pairs: list[tuple[tuple[float, ...], tuple[float, ...]]]) -> None:
    windows, objects = (np.array([pair[i] for pair in pairs], np.float32) for i in (0, 1))
    edges = encode_edges(windows, objects)
    back = decode_edges(windows, np.stack([edges, edges], axis=1))
    assert (back.shape, str(back.dtype)) == ((len(pairs), 2, 4), "float32")
    for k in (0, 1):
        np.testing.assert_allclose(back[:, k], objects, rtol=1e-5, atol=1e-3)


def by_hand(of: EdgeRegressor, rows: Tensor, windows: np.ndarray) -> np.ndarray:
    """Every class's box of each window, one number after another: [n, K, 4]."""
    values = rows.double() / rows.double().square().mean(1, keepdim=True).sqrt()
    for i, layer in enumerate(linear_of(of.layers)):
        values = values @ layer.weight.double().T + layer.bias.double()
        values = values.relu() if i < 2 else values
    out = np.empty((len(rows), values.shape[1] // 4, 4))
    for n, (x1, y1, x2, y2) in enumerate(windows.astype(float)):
        for k in range(out.shape[1]):
            for edge in range(4):
                share = values[n, 4 * k + edge].item() * STD[edge] + MEAN[edge]
                out[n, k, edge] = (x1, y1)[edge % 2] + share * (x2 - x1, y2 - y1)[edge % 2]
    return out


def test_boxes_are_those_of_the_layers_by_hand() -> None:
    for per_class in (False, True):
        made, rows, windows = regressor(per_class=per_class), pooled(5), places(5)
        found, wanted = made.edges(rows, windows), by_hand(made, rows, windows)
        assert (found.shape, str(found.dtype)) == ((5, 2 if per_class else 1, 4), "float32")
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3)
        if per_class:
            labels = np.array([[1], [0], [1], [1], [0]])
            np.testing.assert_array_equal(made.edges(rows, windows, labels)[:, 0], found[np.arange(5), labels[:, 0]])
            np.testing.assert_array_equal(made.edges(rows, windows, np.array([1, 0])), found[:, ::-1])
        else:
            np.testing.assert_array_equal(made.edges(rows, windows, np.array([1])), found)
        assert made.edges(rows[:0], windows[:0]).shape == (0, 2 if per_class else 1, 4)


def test_windows_a_hundred_times_as_large_give_the_same_boxes() -> None:
    made, rows, windows = regressor(), pooled(4), places(4)
    np.testing.assert_allclose(made.edges(100 * rows, windows), made.edges(rows, windows), rtol=1e-4)


def test_targets_are_what_gives_the_object_back() -> None:
    made, windows, objects = regressor(), places(6), places(12)[6:]
    targets = made.standardised(windows, objects)
    assert str(targets.dtype) == "float32"
    np.testing.assert_allclose(targets, (encode_edges(windows, objects) - MEAN) / STD, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(decode_edges(windows, (targets * STD + MEAN)[:, None])[:, 0], objects, rtol=1e-4)


def test_new_layers_keep_the_size_of_what_goes_through() -> None:
    layers = new_edge_layers(2000, (1500, 800), 4, seeded())
    values = torch.rand(64, 2000, generator=seeded(1))
    sizes = []
    for layer in layers:
        values = layer(values)
        sizes.append(values.square().mean().sqrt().item())
    assert 0.9 < sizes[0] < 1.1 and 0.7 < sizes[2] < 1.4 and 0.7 < sizes[4] < 1.4
    assert sizes[5] == pytest.approx(0.01 * 800**0.5 * sizes[4], rel=0.3)
    again = new_edge_layers(2000, (1500, 800), 4, seeded())
    assert all(torch.equal(one, other) for one, other in zip(layers.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("per_class", [False, True])
def test_a_file_gives_back_what_was_written(tmp_path: Path, per_class: bool) -> None:
    made = regressor(per_class=per_class)
    for name in ("a", "b"):
        save_regressor(tmp_path / name, made, {"stage": "regress"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    found = load_regressor(tmp_path / "a")
    assert (found.classes, found.per_class, found.conv_digest) == (CLASSES, per_class, "d" * 64)
    assert (found.length, found.units, found.digest) == (LENGTH, UNITS, made.digest)
    np.testing.assert_array_equal(found.edges(pooled(3), places(3)), made.edges(pooled(3), places(3)))


def test_the_digest_is_of_what_turns_windows_into_edges() -> None:
    made, other = regressor(), regressor()
    assert made.digest == other.digest
    other.conv_digest = "e" * 64
    assert made.digest == other.digest
    other.std = 2 * STD
    digests = {made.digest, other.digest, regressor(per_class=True).digest}
    third = regressor()
    with torch.no_grad():
        linear_of(third.layers)[0].bias[0] += 1
    assert len(digests | {third.digest}) == 4


def test_maps_of_other_weights_are_refused() -> None:
    made = regressor()
    made.check_conv("d" * 64, "r/weights.safetensors")
    with pytest.raises(StageError, match=r"^r/weights.safetensors: trained on maps of other weights; run `dvc repro`"):
        made.check_conv("e" * 64, "r/weights.safetensors")


def form(**values: Any) -> Callable[[Path], None]:
    return edited(lambda _, meta: meta.update(edges=json.dumps(json.loads(meta["edges"]) | values)))


def tensor(name: str, value: Tensor) -> Callable[[Path], None]:
    return edited(lambda tensors, _: tensors.update({name: value}))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-50]),
        lambda path: path.unlink(),
        edited(lambda _, meta: meta.update(format="rcnn-weights-1")),
        edited(lambda _, meta: meta.update(edges="[]")),
        edited(lambda _, meta: meta.update(edges="{")),
        without("classes"),
        edited(lambda _, meta: meta.update(classes='["ant", "bee", "cow"]')),  # the layers are for two
        without("layers/3.bias"),
        without("norm/std"),
        form(length=25),
        form(length=10**12),
        form(length="24"),
        form(units=[8, 7]),
        form(units=[8]),
        form(units=[8, 10**9]),
        form(units=8),
        form(per_class=False),
        form(per_class=1),
        form(conv_digest=None),
        tensor("layers/1.weight", torch.zeros(8, 24, dtype=torch.float64)),
        tensor("norm/mean", torch.zeros(3, dtype=torch.float64)),
        tensor("norm/mean", torch.full((4,), torch.nan, dtype=torch.float64)),
        tensor("norm/std", torch.zeros(4, dtype=torch.float64)),
        tensor("norm/std", torch.ones(4)),
    ],
)
def test_a_damaged_or_foreign_file_is_refused(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "w.safetensors"
    save_regressor(path, regressor(per_class=True))
    load_regressor(path)
    damage(path)
    with pytest.raises(StageError) as caught:
        load_regressor(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_networks_own_weights_are_no_regressor(tmp_path: Path) -> None:
    save_weights(tmp_path / "w", small())
    with pytest.raises(StageError, match="holds no box regressor of windows"):
        load_regressor(tmp_path / "w")


def test_layers_have_the_papers_sizes() -> None:
    sizes = [tuple(one.weight.shape) for one in linear_of(edge_layers(25_600, (4096, 1024), 4, "meta"))]
    assert sizes == [(4096, 25_600), (1024, 4096), (4, 1024)]
