"""Losses of several terms, accumulated gradients and frozen parts, against the same steps written out by hand."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stage_context import Messages
from torch import Tensor, nn
from torch.nn import functional

from cache.errors import StageError
from stages.training.checkpoint import Checkpoint
from stages.training.curve import Progress
from stages.training.loop import TrainingRun, generator, train
from stages.training.solver import MomentumSGD, StepSchedule, caffe_multipliers


class TwoHeads(nn.Module):
    """A trunk with batch normalisation, and heads that score and regress, as Fast R-CNN has them."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.score, self.box = nn.Linear(8, 3), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.trunk(x)
        return self.score(y), self.box(y)


Regions = tuple[Tensor, Tensor, Tensor]  # a batch that is no LabelledBatch: features, classes, box targets


def draw(number: int) -> Regions:
    rng = generator(1, "toy", "batch", number)
    x = torch.from_numpy(rng.normal(size=(10, 6)).astype(np.float32))
    return x, torch.from_numpy(rng.integers(0, 3, 10)), x[:, :4] * 2


def two_terms(model: TwoHeads, batch: Regions) -> dict[str, Tensor]:
    scores, boxes = model(batch[0])
    return {"cls": functional.cross_entropy(scores, batch[1]), "box": functional.smooth_l1_loss(boxes, batch[2])}


def made(seed: int = 0) -> TwoHeads:
    torch.manual_seed(seed)
    return TwoHeads()


def trained(
    folder: Path,
    model: TwoHeads,
    loss: Callable[[TwoHeads, Regions], Mapping[str, Tensor]] = two_terms,
    log: Messages | None = None,
    weights: Mapping[str, float] | None = None,
    **run: Any,
) -> list[dict[str, float]]:
    torch.set_num_threads(1)
    values = {"iterations": 6, "eval_every": 3, "checkpoint_every": 2, "seed": 3} | run
    return train(
        model,
        MomentumSGD(model, caffe_multipliers(model), momentum=0.9, weight_decay=0.01),
        schedule=StepSchedule(0.05, 0.1, 4),
        draw=draw,
        loss=loss,
        weights=weights,
        run=TrainingRun("toy", **values),
        checkpoint=Checkpoint(folder, {}),
        log=log or Messages(),
    )


def by_hand(
    model: TwoHeads, weights: Mapping[str, float], iterations: int, iter_size: int
) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """Each iteration's mean terms, and the weights that Caffe's steps on the mean gradients give."""
    model.train()
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    by = caffe_multipliers(model)
    velocity = {name: torch.zeros_like(p) for name, p in trainable.items()}
    seen = []
    for i in range(iterations):
        sums = {name: torch.zeros_like(p) for name, p in trainable.items()}
        means: dict[str, float] = {}
        for k in range(iter_size):
            terms = two_terms(model, draw(i * iter_size + k))
            total = sum((weights.get(name, 1.0) * term for name, term in terms.items()), torch.zeros(()))
            gradients = torch.autograd.grad(total, list(trainable.values()))
            for name, gradient in zip(trainable, gradients, strict=True):
                sums[name] += gradient
            for name, term in terms.items():
                means[name] = means.get(name, 0.0) + term.item() / iter_size
        seen.append(means)
        rate = 0.05 * 0.1 ** (i // 4)
        with torch.no_grad():
            for name, p in trainable.items():
                gradient = sums[name] / iter_size + 0.01 * by[name].decay * p
                velocity[name] = 0.9 * velocity[name] + rate * by[name].rate * gradient
                p.sub_(velocity[name])
    return seen, model.state_dict()


@pytest.mark.parametrize("iter_size", [1, 2, 3])
@pytest.mark.parametrize("weights", [{}, {"box": 2.5}, {"cls": 0.0, "box": 10.0}])
def test_steps_are_on_the_mean_gradient_of_the_weighted_sum(
    tmp_path: Path, iter_size: int, weights: dict[str, float]
) -> None:
    model = made()
    rows = trained(tmp_path, model, weights=weights, iter_size=iter_size)
    seen, expected = by_hand(made(), weights, 6, iter_size)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6, msg=name)
    assert [row["iteration"] for row in rows] == [1, 3, 6]
    for row, part in zip(rows, (seen[:1], seen[1:3], seen[3:]), strict=True):
        means = {name: np.mean([terms[name] for terms in part]) for name in ("cls", "box")}
        assert row["train_cls"] == pytest.approx(means["cls"], rel=1e-4)
        assert row["train_box"] == pytest.approx(means["box"], rel=1e-4)
        total = sum(weights.get(name, 1.0) * mean for name, mean in means.items())
        assert row["train_loss"] == pytest.approx(total, rel=1e-4)


def test_two_batches_of_half_the_length_are_one_batch(tmp_path: Path) -> None:
    def halves(number: int) -> Regions:
        x, labels, boxes = draw(number // 2)
        part = slice(0, 5) if number % 2 == 0 else slice(5, 10)
        return x[part], labels[part], boxes[part]

    together, apart = made().eval(), made().eval()
    options: dict[str, Any] = {"schedule": StepSchedule(0.05, 0.1, 4), "loss": two_terms, "log": Messages()}
    for model, batches, iter_size in ((together, draw, 1), (apart, halves, 2)):
        solver = MomentumSGD(model, caffe_multipliers(model), momentum=0.9, weight_decay=0.01)
        run = TrainingRun("toy", 5, 5, 5, 3, iter_size, train_batch_norm=False)
        train(model, solver, draw=batches, run=run, checkpoint=Checkpoint(tmp_path / str(iter_size), {}), **options)
    for name, value in together.state_dict().items():
        torch.testing.assert_close(value, apart.state_dict()[name], rtol=1e-4, atol=1e-6, msg=name)


def test_one_term_has_no_column_of_its_own_and_several_are_in_the_log_line(tmp_path: Path) -> None:
    class Notes(Messages):
        def progress(self, done: int, total: int, unit: str, note: str = "") -> None:
            self.infos.append(note)

    one, two = Notes(), Notes()
    rows = trained(tmp_path / "one", made(), lambda model, batch: {"cls": two_terms(model, batch)["cls"]}, one)
    assert set(rows[0]) == {"iteration", "train_loss"}
    assert one.infos[0] == f"loss {rows[0]['train_loss']:.3f}"
    rows = trained(tmp_path / "two", made(), log=two)
    first = rows[0]
    assert (
        two.infos[0] == f"loss {first['train_loss']:.3f} (cls {first['train_cls']:.3f}, box {first['train_box']:.3f})"
    )


def test_mean_squared_error_on_any_batch(tmp_path: Path) -> None:
    """OverFeat's regression: one term, dictionaries as batches, numpy to tensors in the loss."""
    torch.manual_seed(0)
    model = nn.Linear(3, 4)
    target = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)

    def batch(number: int) -> dict[str, Any]:
        x = np.random.default_rng(number).normal(size=(32, 3)).astype(np.float32)
        return {"windows": x, "edges": x @ target}

    def error(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {"mse": functional.mse_loss(model(torch.from_numpy(batch["windows"])), torch.from_numpy(batch["edges"]))}

    train(
        model,
        MomentumSGD(model, caffe_multipliers(model), momentum=0.9, weight_decay=0.0),
        schedule=StepSchedule(0.1, 0.1, 1000),
        draw=batch,
        loss=error,
        run=TrainingRun("regress", 300, 300, 300, 3),
        checkpoint=Checkpoint(tmp_path, {}),
        log=Messages(),
    )
    np.testing.assert_allclose(model.weight.detach().numpy().T, target, atol=1e-3)


def test_stopped_and_resumed_with_terms_and_accumulated_gradients_gives_the_same_bits(tmp_path: Path) -> None:
    options: dict[str, Any] = {"iter_size": 2, "eval_every": 5, "iterations": 12}
    straight, stopped, resumed = made(), made(), made()
    curve = trained(tmp_path / "a", straight, **options)
    with pytest.raises(InterruptedError):
        trained(tmp_path / "b", stopped, log=Messages(9), **options)
    log = Messages()
    assert trained(tmp_path / "b", resumed, log=log, **options) == curve
    assert log.seen[0] == 9 and log.infos == ["going on from the checkpoint at iteration 8"]
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in straight.state_dict().items())


@pytest.mark.parametrize("frozen", [("trunk",), ("trunk", "score"), ("box",)])
def test_frozen_parts_stay_to_the_bit_statistics_of_batch_normalisation_too(
    tmp_path: Path, frozen: tuple[str, ...]
) -> None:
    model = made()
    for part in frozen:
        model.get_submodule(part).requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trained(tmp_path, model)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == (name.split(".")[0] in frozen), name


def test_parameters_that_the_loss_does_not_reach_are_neither_stepped_nor_decayed(tmp_path: Path) -> None:
    model, before = made(), made()
    trained(tmp_path, model, lambda model, batch: {"cls": two_terms(model, batch)["cls"]})
    assert torch.equal(model.box.weight, before.box.weight)
    assert torch.equal(model.box.bias, before.box.bias)
    assert not torch.equal(model.score.weight, before.score.weight)


def test_an_evaluation_sees_the_model_in_evaluation_mode_without_gradients(tmp_path: Path) -> None:
    model = made()
    seen: list[int] = []

    def evaluate(network: TwoHeads) -> dict[str, float]:
        assert network is model and not any(module.training for module in network.modules())
        seen.append(len(seen))
        assert not network(draw(0)[0])[0].requires_grad
        return {"val_recall": 0.1 * seen[-1]}

    torch.set_num_threads(1)
    rows = train(
        model,
        MomentumSGD(model, caffe_multipliers(model), momentum=0.9, weight_decay=0.0),
        schedule=StepSchedule(0.01, 0.1, 100),
        draw=draw,
        loss=two_terms,
        run=TrainingRun("toy", 7, 3, 100, 3),
        checkpoint=Checkpoint(tmp_path, {}),
        log=Messages(),
        evaluate=evaluate,
    )
    assert [(row["iteration"], row["val_recall"]) for row in rows] == [(1, 0.0), (3, 0.1), (6, 0.2), (7, 0.1 * 3)]


def test_a_term_that_explodes_is_named(tmp_path: Path) -> None:
    def loss(model: TwoHeads, batch: Regions) -> dict[str, Tensor]:
        terms = two_terms(model, batch)
        return terms | {"box": terms["box"] * float("inf")}

    with pytest.raises(StageError, match=r"toy: the loss's box became inf at iteration 1 .* lower toy\.lr"):
        trained(tmp_path, made(), loss)


@pytest.mark.parametrize(
    ("loss", "weights"),
    [
        (two_terms, {"boxes": 2.0}),  # no such term
        (lambda model, batch: two_terms(model, batch) | {"loss": model(batch[0])[0].sum()}, None),  # the total's name
    ],
)
def test_names_that_cannot_be_are_refused(tmp_path: Path, loss: Any, weights: Any) -> None:
    with pytest.raises(ValueError, match="none called loss; weights are for"):
        trained(tmp_path, made(), loss, weights=weights)


def test_terms_that_change_are_refused(tmp_path: Path) -> None:
    def loss(model: TwoHeads, batch: Regions) -> dict[str, Tensor]:
        terms = two_terms(model, batch)
        return terms if bool(torch.equal(batch[0], draw(0)[0])) else {"cls": terms["cls"], "other": terms["box"]}

    with pytest.raises(ValueError, match=r"had the terms \['box', 'cls'\], now it has \['cls', 'other'\]"):
        trained(tmp_path, made(), loss, eval_every=100, iterations=3)


def test_checkpoints_of_before_there_were_terms_are_read() -> None:
    state = {"iteration": 3, "rows": [{"iteration": 1, "train_loss": 2.0}], "loss_sum": 1.5, "loss_count": 2}
    progress = Progress.from_json(state)
    assert (progress.loss_sum, progress.loss_count, progress.term_sums) == (1.5, 2, {})
    assert progress.as_json() == state
    several = Progress(3, (), 1.5, 2, {"a": 1.0, "b": 0.5})
    assert Progress.from_json(several.as_json()) == several
