"""The stage's entry with a small context: what it writes, passes on, resumes and refuses."""

import json
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from stage_context import Messages, StageContext

from cache.errors import StageError
from stages.features.settings import SppSettings
from stages.finetune.settings import FinetuneSettings
from stages.finetune.stage import STAGE, run
from stages.networks.network import build
from stages.networks.weights import load_weights, save_weights
from stages.training.solver import MomentumSGD


class FakeContext(StageContext):
    """Two images with one object each, two proposals per image."""

    workers = 1

    def __init__(self, root: Path, stop_at: int | None = None, without_objects: bool = False, **changes: Any) -> None:
        values = {"iterations": 6, "fg_per_batch": 2, "bg_per_batch": 3, "eval_every": 3, "checkpoint_every": 2}
        groups = {
            "finetune": FinetuneSettings(**(values | changes)),
            "features.crop": "warp",
            "features.context_px": 4,
            "features.method": "warp",
            "features.spp": SppSettings(scales_px=(64,), levels=(4,), target_side_px=32),
            "features.storage": "float16",
        }
        super().__init__(root, STAGE, groups, seed=3)
        self.store = SimpleNamespace(get=self.get)
        self.log = Messages(stop_at)
        gt = np.zeros((0, 4), np.float32) if without_objects else np.array([[5, 5, 35, 30]], np.float32)
        flags = np.zeros(len(gt), bool)
        self.records = [
            SimpleNamespace(id=i, file_name=f"{i}.jpg", boxes=gt, labels=np.zeros(len(gt), int), crowd=flags)
            for i in (7, 9, 11)
        ]
        for name in ("manifest", "proposals"):
            (root / name).write_text("{}")
        if not (root / "weights").exists():
            torch.manual_seed(0)
            save_weights(root / "weights", build("small", 10, generator=torch.Generator().manual_seed(0)), {})

    def get(self, stage: str, key: str, names: list[str]) -> Any:
        assert (stage, names) == ("proposals", ["boxes"])
        boxes = np.array([[6, 6, 35, 30], [40, 0, 60, 30], [0, 30, 30, 45]], np.float32)
        return SimpleNamespace(arrays={"boxes": boxes})

    def input(self, name: str) -> Path:
        return self.root / name

    def output(self, name: str) -> Path:
        return self.root / f"out-{name}"

    def dataset(self) -> Any:
        return SimpleNamespace(classes=("cat",), split=lambda name: {"train": self.records}[name])

    def artifact(self, name: str) -> Any:
        return SimpleNamespace(keys={7: "k7", 9: "k9", 11: "k11"})

    def image(self, record: Any) -> np.ndarray:
        return np.random.default_rng(record.id).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def test_writes_a_network_of_n_plus_one_outputs_and_its_curve(tmp_path: Path) -> None:
    ctx = FakeContext(tmp_path)
    run(ctx)
    assert load_weights(tmp_path / "out-weights").n_outputs == 2
    with safe_open(tmp_path / "out-weights", "np") as file:
        assert json.loads(file.metadata()["classes"]) == ["cat"]
    lines = (tmp_path / "out-curve").read_text().splitlines()
    assert lines[0] == "iteration,train_loss,val_loss,val_accuracy,val_fg_accuracy"
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "3", "6"]
    assert "4 foreground and 4 background windows of 2 images; 1 images held out" in ctx.log.infos[0]
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.parametrize(("accuracy", "warned"), [(0.0, True), (0.09, True), (0.5, False), (float("nan"), False)])
def test_warns_when_nothing_was_learned(tmp_path: Path, monkeypatch, accuracy: float, warned: bool) -> None:
    row = {"iteration": 6, "train_loss": 1.0, "val_loss": 1.0, "val_accuracy": 0.75, "val_fg_accuracy": accuracy}
    monkeypatch.setattr("stages.finetune.fine_tune.fine_tune", lambda *args, **kwargs: [row])
    ctx = FakeContext(tmp_path)
    run(ctx)
    assert any("lower finetune.lr" in line for line in ctx.log.warnings) == warned


def test_weights_of_any_length_are_passed_on_without_holding_them_in_memory(tmp_path: Path) -> None:
    ctx = FakeContext(tmp_path, iterations=0)
    ctx.input("weights").write_bytes(bytes(2**23))
    run(ctx)
    tracemalloc.start()
    try:
        run(ctx)
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()
    assert ctx.output("weights").read_bytes() == bytes(2**23)


def test_zero_iterations_pass_the_weights_on(tmp_path: Path) -> None:
    run(FakeContext(tmp_path, iterations=0))
    assert (tmp_path / "out-weights").read_bytes() == (tmp_path / "weights").read_bytes()
    assert (tmp_path / "out-curve").read_text() == "iteration,train_loss,val_loss,val_accuracy,val_fg_accuracy\n"


@pytest.mark.parametrize(("step", "drops"), [(2, [0, 0, 1, 1, 2, 2]), ((1, 4), [0, 1, 1, 1, 2, 2])])
def test_the_rate_drops_when_and_by_what_the_parameters_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: Any, drops: list[int]
) -> None:
    rates: list[float] = []
    monkeypatch.setattr(MomentumSGD, "step", lambda solver, rate: rates.append(rate))
    run(FakeContext(tmp_path, lr=0.02, step=step, gamma=0.5))
    assert rates == [0.02 * 0.5**n for n in drops]


def test_stopped_run_goes_on_only_with_the_same_parameters(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        run(FakeContext(tmp_path, stop_at=5))
    for changes, first in (({"lr": 0.002}, 1), ({"step": (3, 5)}, 1), ({"image_cache_mb": 0}, 5), ({}, 1)):
        ctx = FakeContext(tmp_path, **changes)
        run(ctx)
        assert ctx.log.seen[0] == first, changes
    # the last one began again, since the second finished and removed the checkpoint; all the bits are the same
    again = (tmp_path / "out-weights").read_bytes()
    run(FakeContext(tmp_path))
    assert (tmp_path / "out-weights").read_bytes() == again


def test_no_objects_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no window of the train split"):
        run(FakeContext(tmp_path, without_objects=True))


def test_image_without_proposals_entry_is_named(tmp_path: Path) -> None:
    ctx = FakeContext(tmp_path)
    ctx.records[1].id = 10
    with pytest.raises(StageError, match=r"^9\.jpg: no proposals"):
        run(ctx)


def test_context_that_leaves_no_room_is_refused(tmp_path: Path) -> None:
    ctx = FakeContext(tmp_path)
    ctx.groups["features.context_px"] = 32
    with pytest.raises(StageError, match=r"features\.context_px"):
        run(ctx)


def test_declares_what_it_uses() -> None:
    assert set(STAGE.outputs) == {"weights", "curve", "maps"}
    assert set(STAGE.inputs) == {"manifest", "proposals", "weights"}
    own = {"features.method", "features.crop", "features.context_px", "features.spp", "features.storage"}
    assert {"seed", "finetune", *own} == set(STAGE.groups)
