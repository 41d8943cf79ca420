"""The loop: same batches for any threads, checkpoints that survive SIGKILL, and a clear end when the loss explodes."""

import csv
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from waiting import HANG_S

from cache.errors import StageError
from stages.training.checkpoint import Checkpoint
from stages.training.cross_entropy import LabelledBatch, classify, cross_entropy
from stages.training.curve import write_curve
from stages.training.loop import TrainingRun, generator, prefetch, train
from stages.training.solver import MomentumSGD, StepSchedule, caffe_multipliers

ROOT = Path(__file__).parents[3]


class QuietLog:
    def __init__(self, after: Callable[[int], None] = lambda done: None) -> None:
        self.after = after
        self.seen: list[int] = []
        self.messages: list[str] = []

    def info(self, message: str) -> None:
        self.messages.append(message)

    warning = info

    def progress(self, done: int, total: int, unit: str, note: str = "") -> None:
        self.seen.append(done)
        self.after(done)


def small_net() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(4 * 36, 3)
    )


def run(
    folder: Path,
    *,
    iterations: int = 20,
    every: int = 5,
    identity: Any = "a",
    log: QuietLog | None = None,
    lr: float = 0.02,
    workers: int = 2,
    train_batch_norm: bool = True,
) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    torch.set_num_threads(1)
    network = small_net()
    solver = MomentumSGD(network, caffe_multipliers(network), momentum=0.9, weight_decay=0.0005)

    def draw(iteration: int) -> LabelledBatch:
        rng = generator(7, "toy", "batch", iteration)
        labels = rng.integers(0, 3, 8)
        images = rng.normal(0, 1, (8, 3, 8, 8)).astype(np.float32)
        images[np.arange(8), labels] += 1.5
        return LabelledBatch(images, labels)

    def evaluate(network: nn.Module) -> dict[str, float]:
        losses, predicted, labels = classify(network, [draw(10_000)])
        return {"val_loss": float(losses.mean()), "val_accuracy": float((predicted == labels).mean())}

    training = TrainingRun("toy", iterations, 4, every, 7, train_batch_norm=train_batch_norm, workers=workers)
    rows = train(
        network,
        solver,
        schedule=StepSchedule(lr, 0.1, 12),
        draw=draw,
        evaluate=evaluate,
        loss=cross_entropy(),
        run=training,
        checkpoint=Checkpoint(folder, {"run": identity}),
        log=log or QuietLog(),
    )
    return network.state_dict(), rows


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class Stop(Exception):
    pass


def stop_at(iteration: int) -> QuietLog:
    def after(done: int) -> None:
        if done == iteration:
            raise Stop

    return QuietLog(after)


@pytest.mark.parametrize("stopped", [5, 10, 13, 19])
def test_stopped_and_resumed_gives_the_same_bits(tmp_path: Path, stopped: int) -> None:
    straight, curve = run(tmp_path / "straight")
    with pytest.raises(Stop):
        run(tmp_path / "stopped", log=stop_at(stopped))
    log = QuietLog()
    resumed, resumed_curve = run(tmp_path / "stopped", log=log)
    assert log.seen[0] == stopped // 5 * 5 + 1  # it did go on, and did not begin again
    assert same(straight, resumed)
    assert curve == resumed_curve
    assert [row["iteration"] for row in curve] == [1, 4, 8, 12, 16, 20]


KILLED = """
import os, signal, sys
sys.path[:0] = [{root!r}, {root!r} + "/tests/helpers", {here!r}]
from pathlib import Path
from test_training_loop import QuietLog, run
run(Path({folder!r}), log=QuietLog(lambda done: os.kill(os.getpid(), signal.SIGKILL) if done == 13 else None))
"""


def test_killed_process_is_resumed_to_the_same_bits(tmp_path: Path) -> None:
    script = KILLED.format(root=str(ROOT), here=str(Path(__file__).parent), folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=HANG_S)
    assert done.returncode == -signal.SIGKILL
    log = QuietLog()
    resumed, _ = run(tmp_path, log=log)
    assert log.seen[0] == 11
    assert same(resumed, run(tmp_path / "straight")[0])


def test_checkpoint_of_another_run_is_not_picked_up(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run(tmp_path, log=stop_at(12))
    log = QuietLog()
    run(tmp_path, identity="b", log=log)
    assert log.seen[0] == 1


def test_damaged_checkpoint_says_what_to_delete(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run(tmp_path, log=stop_at(12))
    [file] = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(StageError, match=f"{file.name}.*delete it"):
        run(tmp_path)


@pytest.mark.parametrize("state", [[], {"iteration": "x", "rows": [], "loss_sum": 0.0, "loss_count": 0}, None])
def test_progress_of_another_form_is_damage(tmp_path: Path, state: object) -> None:
    network = nn.Linear(2, 2)
    solver = MomentumSGD(network, caffe_multipliers(network), momentum=0.9, weight_decay=0.0)
    checkpoint = Checkpoint(tmp_path, {"seed": 1})
    tensors = {f"network/{k}": v for k, v in network.state_dict().items()}
    save_file(tensors, checkpoint.path, {"identity": checkpoint.identity, "progress": json.dumps(state)})
    with pytest.raises(StageError, match="the checkpoint is damaged"):
        checkpoint.restore(network, solver)


def test_number_of_threads_changes_nothing(tmp_path: Path) -> None:
    assert same(run(tmp_path / "1", workers=1)[0], run(tmp_path / "4", workers=4)[0])


def masked_columns(folder: Path, iterations: int) -> np.ndarray:
    """Which inputs of a linear layer behind dropout got no gradient in any iteration of one sample each."""
    layer = nn.Linear(200, 3)
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), layer)
    before = layer.weight.detach().clone()
    train(
        network,
        MomentumSGD(network, caffe_multipliers(network), momentum=0.0, weight_decay=0.0),
        schedule=StepSchedule(0.001, 1.0, 1),  # small: a loss of 0 would have no gradient
        draw=lambda i: LabelledBatch(np.ones((1, 2, 10, 10), np.float32), np.array([1])),
        loss=cross_entropy(),
        run=TrainingRun("toy", iterations, 10, 10, 7),
        checkpoint=Checkpoint(folder, {}),
        log=QuietLog(),
    )
    return torch.eq(layer.weight, before).all(dim=0).numpy()


def test_dropout_is_active_and_differs_by_iteration(tmp_path: Path) -> None:
    assert 70 < masked_columns(tmp_path, 1).sum() < 130  # binomial(200, 0.5): 4 standard deviations
    assert 25 < masked_columns(tmp_path, 2).sum() < 75  # binomial(200, 0.25), if the two masks are independent


def test_global_random_state_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(99)
    nn.Linear(200, 3)  # what masked_columns draws for its weights
    expected = torch.rand(1)
    torch.manual_seed(99)
    masked_columns(tmp_path, 2)
    assert torch.equal(torch.rand(1), expected)


def test_batch_norm_statistics_stay_when_asked(tmp_path: Path) -> None:
    fresh = small_net().state_dict()
    trained, _ = run(tmp_path / "trained")
    frozen, _ = run(tmp_path / "frozen", train_batch_norm=False)
    assert not torch.equal(trained["1.running_mean"], fresh["1.running_mean"])
    assert torch.equal(frozen["1.running_mean"], fresh["1.running_mean"])
    assert not torch.equal(frozen["1.weight"], fresh["1.weight"])  # its gain is still learned


def test_exploding_loss_names_the_rate(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"toy: the loss became .* lower toy\.lr"):
        run(tmp_path, lr=1e9)


def test_loss_falls(tmp_path: Path) -> None:
    _, curve = run(tmp_path, iterations=40)
    assert curve[-1]["val_loss"] < 0.5 * curve[0]["val_loss"]


def test_batches_come_in_order_whatever_the_threads_do() -> None:
    def slow_first(i: int) -> LabelledBatch:
        time.sleep(0.02 * (i % 3 == 0))
        return LabelledBatch(np.full((1, 1), i, np.float32), np.array([i]))

    assert [int(b.labels[0]) for b in prefetch(slow_first, 3, 12, 4)] == list(range(3, 12))


def test_an_error_in_a_thread_comes_out_and_ends_the_threads() -> None:
    def failing(i: int) -> LabelledBatch:
        if i == 2:
            raise StageError("image gone")
        return LabelledBatch(np.zeros((1, 1), np.float32), np.array([0]))

    with pytest.raises(StageError, match="image gone"):
        list(prefetch(failing, 0, 10, 2))
    assert not [t for t in threading.enumerate() if t.name.startswith("batch")]


def test_curve_file(tmp_path: Path) -> None:
    rows = [{"iteration": 1, "loss": 0.25, "accuracy": float("nan")}, {"iteration": 1_000_000, "loss": 1 / 3}]
    write_curve(tmp_path / "curve.csv", ("iteration", "loss", "accuracy"), rows)
    with (tmp_path / "curve.csv").open() as file:
        assert list(csv.reader(file)) == [
            ["iteration", "loss", "accuracy"],
            ["1", "0.25", ""],
            ["1000000", "0.333333", ""],
        ]
