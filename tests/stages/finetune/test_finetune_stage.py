"""The stage's entry with a small context: what it writes, passes on, resumes and refuses."""

import json
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_arrays import as_boxes
from safetensors import safe_open
from stage_context import Messages, StageContext

from cache import Artifact, Payload, Recipe
from cache.errors import StageError
from manifests import Dataset, ImageRecord, save_dataset
from stages.features.settings import FeaturesSettings
from stages.finetune.fine_tune import FineTuned
from stages.finetune.settings import FinetuneSettings
from stages.networks.network import build
from stages.networks.weights import load_weights, save_weights
from stages.training.solver import MomentumSGD


class FakeContext(StageContext):
    """Three images with one object each, three proposals per image."""

    def __init__(self, root: Path, stop_at: int | None = None, without_objects: bool = False, **changes: Any) -> None:
        values: dict[str, Any] = {
            "iterations": 6,
            "fg_per_batch": 2,
            "bg_per_batch": 3,
            "eval_every": 3,
            "checkpoint_every": 2,
        }
        values["held_out_fraction"] = 0.1
        groups = {"finetune": FinetuneSettings(**(values | changes)), "features": FeaturesSettings(context_px=4)}
        super().__init__(root, "finetune", groups, seed=3)
        self.log, self.workers = Messages(stop_at), 1
        objects = [] if without_objects else [[5, 5, 35, 30]]
        self.image = picture_of
        self.write([record(i, objects) for i in (7, 9, 11)])
        proposals = np.array([[6, 6, 35, 30], [40, 0, 60, 30], [0, 30, 30, 45]], np.float32)
        put = [(i, self.store.put(Recipe("proposals", 1, {}, {"image": i}), boxes_of(proposals))) for i in (7, 9, 11)]
        Artifact("proposals", 1, {}, {}, tuple(put), {}).write(self.place("proposals"))
        if not self.place("weights").exists():
            save_weights(self.place("weights"), build("small", 10, generator=torch.Generator().manual_seed(0)), {})

    def write(self, records: list[ImageRecord]) -> None:
        save_dataset(Dataset("toy", ("cat",), tuple(records)), self.place("manifest"))


def record(number: int, objects: list[list[int]], **changes: Any) -> ImageRecord:
    values: dict[str, Any] = {"file_name": f"{number}.jpg", "width": 64, "height": 48, "split": "train"}
    values["sha256"] = f"{number:064x}"
    return ImageRecord(number, boxes=as_boxes(objects), **(values | {"labels": [0] * len(objects)} | changes))


def boxes_of(boxes: np.ndarray) -> Payload:
    return Payload({"boxes": boxes}, {"count": len(boxes)}, "hdf5")


def picture_of(which: ImageRecord) -> np.ndarray:
    return np.random.default_rng(which.id).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def test_writes_a_network_of_n_plus_one_outputs_and_its_curve(tmp_path: Path) -> None:
    ctx = FakeContext(tmp_path)
    ctx.run()
    assert load_weights(tmp_path / "artifacts/finetune/weights.safetensors").n_outputs == 2
    with safe_open(tmp_path / "artifacts/finetune/weights.safetensors", "np") as file:
        assert json.loads(file.metadata()["classes"]) == ["cat"]
    lines = (tmp_path / "artifacts/finetune/curve.csv").read_text().splitlines()
    assert lines[0] == "iteration,train_loss,val_loss,val_accuracy,val_fg_accuracy"
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "3", "6"]
    assert "4 foreground and 4 background windows of 2 images; 1 images held out" in ctx.log.infos[0]
    assert not list(ctx.work_dir().iterdir())


@pytest.mark.parametrize(("accuracy", "warned"), [(0.0, True), (0.09, True), (0.5, False), (float("nan"), False)])
def test_warns_when_nothing_was_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accuracy: float, warned: bool
) -> None:
    found = FineTuned([{"iteration": 6, "train_loss": 1.0}], accuracy)
    monkeypatch.setattr("stages.finetune.stage.fine_tune", lambda *args, **kwargs: found)
    for fraction, which in ((0.1, "held-out"), (0.0, "training")):
        ctx = FakeContext(tmp_path / which, held_out_fraction=fraction)
        ctx.run()
        told = [line for line in ctx.log.warnings if "lower finetune.lr" in line]
        assert [f" of the {which} object windows are recognised" in line for line in told] == [True] * warned


def test_by_default_every_image_is_trained_on_and_the_curve_has_no_held_out_values(tmp_path: Path) -> None:
    assert FinetuneSettings().held_out_fraction == 0
    ctx = FakeContext(tmp_path, held_out_fraction=0)
    ctx.run()
    assert "6 foreground and 6 background windows of 3 images; 0 images held out" in ctx.log.infos[0]
    lines = ctx.output("curve").read_text().splitlines()
    assert lines[0] == "iteration,train_loss,val_loss,val_accuracy,val_fg_accuracy"
    assert [line.split(",")[2:] for line in lines[1:]] == [["", "", ""]] * 3


def test_an_image_that_alone_shows_a_class_is_trained_on_whatever_the_seed(tmp_path: Path) -> None:
    for seed in range(6):
        ctx = FakeContext(tmp_path / str(seed), held_out_fraction=0.5, iterations=1)
        ctx.change(seed=seed)
        shown = [record(7, [[5, 5, 35, 30]]), record(9, [[5, 5, 35, 30]], labels=[1]), record(11, [[5, 5, 35, 30]])]
        save_dataset(Dataset("toy", ("cat", "dog", "cow"), tuple(shown)), ctx.place("manifest"))
        ctx.run()
        assert "4 foreground and 4 background windows of 2 images; 1 images held out" in ctx.log.infos[0]
        assert ctx.log.warnings[0] == "class 'cow' has no foreground window: fine-tuning cannot teach it"


def test_trains_on_the_images_of_the_splits_named(tmp_path: Path) -> None:
    """The weights are those that these images alone give, to the byte and under their key."""
    results = []
    for name, splits, images in (
        ("all", "aab", None),
        ("some", "aab", "a"),
        ("alone", "aa", None),
        ("both", "aab", ("b", "a")),
    ):
        ctx = FakeContext(tmp_path / name, held_out_fraction=0, images=images)
        ids = (7, 9, 11)[: len(splits)]
        parts = [("train", f"train/{part}") for part in splits]
        ctx.write([record(i, [[5, 5, 35, 30]], splits=split) for i, split in zip(ids, parts, strict=True)])
        ctx.run()
        results.append((ctx.output("weights").read_bytes(), ctx.listed("trained").entries))
    of_all, of_some, alone, both = results
    assert of_some == alone and of_all == both
    assert of_all[0] != of_some[0] and of_all[1] != of_some[1]


def test_weights_of_any_length_are_passed_on_without_holding_them_in_memory(tmp_path: Path) -> None:
    ctx = FakeContext(tmp_path, iterations=0)
    ctx.input("weights").write_bytes(bytes(2**23))
    ctx.run()
    tracemalloc.start()
    try:
        ctx.run()
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()
    assert ctx.output("weights").read_bytes() == bytes(2**23)


def test_zero_iterations_pass_the_weights_on(tmp_path: Path) -> None:
    ctx = FakeContext(tmp_path, iterations=0)
    ctx.run()
    assert ctx.output("weights").read_bytes() == ctx.input("weights").read_bytes()
    assert ctx.output("curve").read_text() == "iteration,train_loss,val_loss,val_accuracy,val_fg_accuracy\n"
    assert ctx.listed("trained").entries == ()


@pytest.mark.parametrize(("step", "drops"), [(2, [0, 0, 1, 1, 2, 2]), ((1, 4), [0, 1, 1, 1, 2, 2])])
def test_the_rate_drops_when_and_by_what_the_parameters_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: Any, drops: list[int]
) -> None:
    rates: list[float] = []
    monkeypatch.setattr(MomentumSGD, "step", lambda solver, rate: rates.append(rate))
    FakeContext(tmp_path, lr=0.02, step=step, gamma=0.5).run()
    assert rates == [0.02 * 0.5**n for n in drops]


def test_stopped_run_goes_on_only_with_the_same_parameters(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        FakeContext(tmp_path, stop_at=5).run()
    whole = FakeContext(tmp_path / "whole")
    whole.run()
    # the last finds the result of the one before, whose parameters differ in nothing that matters to it
    cases: list[tuple[dict[str, Any], list[int]]] = [({"lr": 0.002}, [1]), ({"step": (3, 5)}, [1])]
    for changes, first in (*cases, ({"image_cache_mb": 0}, [5]), ({}, [])):
        ctx = FakeContext(tmp_path, **changes)
        ctx.run()
        assert ctx.log.seen[:1] == first, changes
    for name in ("weights", "curve"):
        assert ctx.output(name).read_bytes() == whole.output(name).read_bytes()


def test_weights_that_the_store_has_need_no_proposals_and_no_picture(tmp_path: Path) -> None:
    ctx = FakeContext(tmp_path)
    ctx.run()
    weights = ctx.output("weights").read_bytes()
    shutil.rmtree(tmp_path / "store/objects/proposals")
    again = StageContext(tmp_path, "finetune", {"finetune": ctx.settings(FinetuneSettings)}, seed=3)  # has no pictures
    again.change(features=FeaturesSettings(context_px=4))
    ctx.output("weights").unlink()
    again.run()
    assert again.output("weights").read_bytes() == weights
    assert (again.computed, again.tally.computed, again.listed("maps").entries) == ([], 0, ())


def test_another_padding_is_another_training_and_the_papers_has_the_name_it_had(tmp_path: Path) -> None:
    ctx, found = FakeContext(tmp_path), []
    for padding in ("mean", "replicate"):
        ctx.change(features=FeaturesSettings(context_px=4, padding=padding))
        ctx.run()
        ((_, key),) = ctx.listed("trained").entries
        regions = ctx.store.describe("finetune", key)["recipe"]["params"]["regions"]
        found.append((regions, ctx.output("weights").read_bytes()))
    assert [regions for regions, _ in found] == [["warp", "warp", 4], ["warp", "warp", 4, "replicate"]]
    assert found[0][1] != found[1][1]


def test_no_objects_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no window of the train split"):
        FakeContext(tmp_path, without_objects=True).run()


def test_image_without_proposals_entry_is_named(tmp_path: Path) -> None:
    ctx = FakeContext(tmp_path)
    ctx.write([record(i, [[5, 5, 35, 30]], file_name=f"{j}.jpg") for i, j in ((7, 7), (10, 9), (11, 11))])
    with pytest.raises(StageError, match=r"^9\.jpg: no proposals"):
        ctx.run()


def test_context_that_leaves_no_room_is_refused(tmp_path: Path) -> None:
    ctx = FakeContext(tmp_path)
    ctx.change(features=FeaturesSettings(context_px=32))
    with pytest.raises(StageError, match=r"features\.context_px"):
        ctx.run()


def test_of_an_image_annotated_in_part_the_windows_are_its_objects(tmp_path: Path) -> None:
    plain, partial = FakeContext(tmp_path / "plain", held_out_fraction=0), FakeContext(tmp_path, held_out_fraction=0)
    partial.write([record(i, [[5, 5, 35, 30]], exhaustive=i != 9) for i in (7, 9, 11)])
    listed = Artifact.read(partial.place("proposals"))
    without = tuple(entry for entry in listed.entries if entry[0] != 9)
    Artifact("proposals", 1, {}, {}, without, {}).write(partial.place("proposals"))
    plain.run()
    partial.run()
    assert "5 foreground and 4 background windows of 3 images" in partial.log.infos[0]
    assert partial.listed("trained").entries != plain.listed("trained").entries
