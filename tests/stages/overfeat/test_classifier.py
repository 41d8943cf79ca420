"""The classifier of windows: context by hand, probabilities, its digest and its file."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from dense_images import CLASSES, small
from edited_weights import edited, without
from torch import Tensor, nn
from torch.nn import functional

from cache.errors import StageError
from stages.networks.network import build
from stages.networks.weights import save_weights
from stages.overfeat.classifier import (
    DenseClassifier,
    classifier_as_it_is,
    load_classifier,
    new_classifier,
    save_classifier,
)
from stages.overfeat.pooled_rows import fc6_length


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def classifier(*, context: bool = False, normed: bool = False) -> DenseClassifier:
    """Two classes; last layer and context of weights that are seen in the answers."""
    made = new_classifier(small(normed=normed), CLASSES, seeded(1), context=context)
    with torch.no_grad():
        for parameter in (*made.network.classifier_parameters(), *([made.around.weight] if made.around else [])):
            parameter.normal_(0, 0.1, generator=seeded(2))
    return made


def windows(count: int, of: DenseClassifier, *, parts: int = 1) -> Tensor:
    return torch.rand(count, parts * fc6_length(of.network), generator=seeded(3))


def fully_connected(of: DenseClassifier) -> tuple[list[nn.Linear], bool]:
    """Return fc6, fc7 and fc8, and whether windows are brought to a root mean square of 1 before."""
    layers = list(of.network.fc_graph(["fc8"]).modules())
    return [one for one in layers if isinstance(one, nn.Linear)], any(isinstance(one, nn.RMSNorm) for one in layers)


@pytest.mark.parametrize("normed", [False, True])
def test_logits_are_those_of_the_networks_layers(normed: bool) -> None:
    made = classifier(normed=normed)
    pooled = windows(5, made)
    found = made.fc_module().eval()(pooled)
    assert found.shape == (5, 3)
    torch.testing.assert_close(found, made.network.fc_graph(["fc8"])(pooled)[made.network.node("fc8")], rtol=0, atol=0)


@pytest.mark.parametrize("normed", [False, True])
def test_context_is_an_fc6_of_both_windows(normed: bool) -> None:
    """One layer of twice as many values; where there is a norm, each window by itself."""
    made = classifier(context=True, normed=normed)
    assert made.around is not None and made.context
    (fc6, fc7, fc8), has_norm = fully_connected(made)
    assert has_norm == normed
    own, around = windows(7, made, parts=2).chunk(2, dim=1)
    if normed:
        own, around = (one / one.square().mean(dim=1, keepdim=True).sqrt() for one in (own, 100 * around))
    both = functional.linear(torch.cat([own, around], 1), torch.cat([fc6.weight, made.around.weight], 1), fc6.bias)
    by_hand = fc8(fc7(both.relu()).relu())
    found = made.fc_module().eval()(torch.cat([own, around], 1))
    torch.testing.assert_close(found, by_hand, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("normed", [False, True])
def test_new_context_changes_nothing(normed: bool) -> None:
    made = new_classifier(small(normed=normed), CLASSES, seeded(1), context=True)
    plain = new_classifier(small(normed=normed), CLASSES, seeded(1), context=False)
    assert not plain.context
    pooled = windows(6, made, parts=2)
    own = pooled[:, : pooled.shape[1] // 2]
    torch.testing.assert_close(made.fc_module().eval()(pooled), plain.fc_module().eval()(own), rtol=0, atol=0)


def test_dropout_falls_on_both_windows_and_all_is_learned() -> None:
    made = classifier(context=True)
    module = made.fc_module().train()
    module.requires_grad_(True)
    module(windows(4, made, parts=2)).square().sum().backward()
    assert made.around is not None and made.around.weight.grad is not None and made.around.weight.grad.any()
    fc = {id(one) for one in made.network.fc_graph(["fc8"]).parameters()} | {id(made.around.weight)}
    assert {id(one) for one in module.parameters()} == fc  # the network's own, and no convolution
    pooled = windows(4, made, parts=2)
    with torch.no_grad():
        assert not torch.equal(module(pooled), module(pooled))


def test_probabilities_are_of_the_softmax_over_all_outputs() -> None:
    logits = torch.randn(6, 3, generator=seeded(4))
    shares = logits.double().exp() / logits.double().exp().sum(1, keepdim=True)
    torch.testing.assert_close(classifier().probabilities(logits).double(), shares[:, 1:], rtol=1e-5, atol=1e-6)
    as_is = classifier_as_it_is(small(), ("bee", "cow", "ant"), CLASSES, "w")
    torch.testing.assert_close(as_is.probabilities(logits).double(), shares[:, [2, 0]], rtol=1e-5, atol=1e-6)


def test_the_classifier_as_it_is_keeps_the_network() -> None:
    network = small()
    weight = copy.deepcopy(network.trunk.state_dict())
    found = classifier_as_it_is(network, ("bee", "cow", "ant"), CLASSES, "w")
    assert (found.background, found.columns, found.context) == (False, (2, 0), False)
    assert all(torch.equal(weight[name], one) for name, one in found.network.trunk.state_dict().items())


@pytest.mark.parametrize(
    ("outputs", "told"), [(None, "does not say what its outputs are"), (("cow", "bee"), "has no output for ant")]
)
def test_a_network_without_an_output_for_a_class_is_refused(outputs: tuple[str, ...] | None, told: str) -> None:
    with pytest.raises(StageError, match=rf"^finetune_dense.iterations: 0 .* but a/w {told}; train it on windows"):
        classifier_as_it_is(small(), outputs, CLASSES, "a/w")


@pytest.mark.parametrize("normed", [False, True])
def test_the_digest_is_of_what_turns_windows_into_probabilities(normed: bool) -> None:
    made = classifier(context=True, normed=normed)
    again = classifier(context=True, normed=normed)
    assert made.digest == again.digest
    with torch.no_grad():
        next(again.network.parameters()).add_(1)  # a convolution
    assert made.digest == again.digest
    found = {made.digest, classifier(normed=normed).digest, classifier(context=True, normed=not normed).digest}
    for change in (lambda one: one.around.weight, lambda one: fully_connected(one)[0][0].bias):
        other = classifier(context=True, normed=normed)
        with torch.no_grad():
            change(other)[0] += 1
        found.add(other.digest)
    assert len(found) == 5
    outputs = [("ant", "bee", "cow"), ("bee", "ant", "cow")]
    assert len({classifier_as_it_is(small(), one, CLASSES, "w").digest for one in outputs}) == 2


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("normed", [False, True])
def test_a_file_gives_back_what_was_written(tmp_path: Path, context: bool, normed: bool) -> None:
    made = classifier(context=context, normed=normed)
    for name in ("a", "b"):
        save_classifier(tmp_path / name, made, {"stage": "finetune_dense"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    found = load_classifier(tmp_path / "a")
    assert (found.classes, found.columns, found.background) == (CLASSES, (1, 2), True)
    assert (found.digest, found.context, found.network.input) == (made.digest, context, made.network.input)
    convolutions = [one.network.trunk.state_dict()["features.0.weight"] for one in (found, made)]
    assert torch.equal(*convolutions)
    pooled = windows(3, made, parts=1 + context)
    assert torch.equal(*(one.fc_module().eval()(pooled) for one in (found, made)))


def test_a_file_without_background(tmp_path: Path) -> None:
    save_classifier(tmp_path / "w", classifier_as_it_is(small(), ("bee", "cow", "ant"), CLASSES, "w"))
    found = load_classifier(tmp_path / "w")
    assert (found.background, found.columns, found.network.n_outputs) == (False, (2, 0), 3)


def dense(**values: Any) -> Callable[[Path], None]:
    return edited(lambda _, meta: meta.update(dense=json.dumps(json.loads(meta["dense"]) | values)))


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    "damage",
    [
        cut_short,
        lambda path: path.write_bytes(b"no tensors"),
        lambda path: path.unlink(),
        edited(lambda _, meta: meta.update(format="another-1")),
        edited(lambda _, meta: meta.update(network="{")),
        edited(lambda _, meta: meta.update(network="[]")),
        edited(lambda _, meta: meta.update(dense="3")),
        without("dense"),
        without("classes"),
        edited(lambda _, meta: meta.update(classes='["ant"]')),
        edited(lambda _, meta: meta.update(classes="{")),
        without("network/features.0.weight"),
        edited(lambda tensors, _: tensors.update({"context/weight": torch.zeros(3, 4)})),
        edited(lambda tensors, _: tensors.update({"context/weight": tensors["context/weight"].double()})),
        dense(columns=[1]),
        dense(columns=[1, 1]),
        dense(columns=[0, 1]),  # background's
        dense(columns=[1, 3]),
        dense(columns=[1, -1]),
        dense(columns=["1", "2"]),
        dense(columns=None),
        dense(background=1),
    ],
)
def test_a_damaged_or_foreign_file_is_refused(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "w.safetensors"
    save_classifier(path, classifier(context=True))
    load_classifier(path)
    damage(path)
    with pytest.raises(StageError) as caught:
        load_classifier(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_context_of_a_network_without_fc6_is_refused(tmp_path: Path) -> None:
    bare = DenseClassifier(
        build("squeezenet1_0", 3, generator=seeded()), CLASSES, (1, 2), around=nn.Linear(4, 4, False)
    )
    save_classifier(tmp_path / "w", bare)
    with pytest.raises(StageError, match=r"damaged weights .*no fully connected layer that takes pool5"):
        load_classifier(tmp_path / "w")


def test_a_networks_own_weights_are_no_classifier(tmp_path: Path) -> None:
    save_weights(tmp_path / "w", small())
    with pytest.raises(StageError, match="holds no classifier of windows"):
        load_classifier(tmp_path / "w")
