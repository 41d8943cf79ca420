"""Fine-tuning of the fully connected layers alone, on windows pooled from stored maps (``features.method: spp``)."""

import dataclasses
import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from network_parts import trunk_of
from plain_arrays import as_labels
from stage_context import Messages, StageContext

from cache import Artifact, Payload, Recipe
from cache.errors import StageError
from manifests import Dataset, ImageRecord, save_dataset
from stages.features.maps import MapsCompute, map_name, map_task, maps_made_of
from stages.features.settings import FeaturesSettings, SppSettings
from stages.features.spp.extraction import Spp, SppExtractor
from stages.finetune.batches import PooledWindows, checked_length, pooled_windows
from stages.finetune.fine_tune import fine_tune, training_run
from stages.finetune.sampling import draw_batch, draw_block
from stages.finetune.settings import FinetuneSettings
from stages.finetune.windows import Windows
from stages.networks.forward import deterministic
from stages.networks.network import Network, build
from stages.networks.weights import load_weights, save_weights, weights_digest
from stages.training.checkpoint import Checkpoint
from stages.training.loop import generator, torch_generator

LEVELS = (1, 2)
SPP = Spp((96, 64), LEVELS, 22)
SHAPES = [(64, 48), (80, 60), (50, 70), (64, 64)]  # width, height


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with deterministic():
        yield


def network(**options: Any) -> Network:
    given = {"pyramid": LEVELS, **options}
    return build("small", 7, generator=torch.Generator().manual_seed(0), **given).eval()


def picture(index: int) -> np.ndarray:
    width, height = SHAPES[index]
    return np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8)


def record(index: int, split: str = "train", boxes: Any = ()) -> ImageRecord:
    sides = SHAPES[index]
    return ImageRecord(10 + index, f"{index}.jpg", *sides, f"{index:064x}", split, boxes, as_labels([0] * len(boxes)))


def random_windows(n: int, seed: int = 0) -> Windows:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, len(SHAPES), n)
    corner = rng.uniform(0, 30, (n, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 20, (n, 2))], 1).astype(np.float32)
    return Windows(images, boxes, rng.integers(0, 4, n))


def picture_of(which: ImageRecord) -> np.ndarray:
    return picture(which.id - 10)


def batches_of(net: Network, storage: str = "float16", cache_bytes: int = 1 << 20) -> PooledWindows:
    """Batches of maps computed as the stage computes them."""
    made_of = maps_made_of(net, SPP.scales_px, "float32", storage)
    compute = MapsCompute(picture_of, net, "cpu", made_of)
    objects = [compute(map_task(record(i), made_of, mirrored=True)).arrays for i in range(len(SHAPES))]
    return pooled_windows(net, lambda name: objects[name[0]][map_name(*name[1:])], SHAPES, SPP, cache_bytes=cache_bytes)


@pytest.mark.parametrize("storage", ["float16", "float32"])
def test_a_batch_is_to_the_bit_what_the_features_stage_stores(storage: str) -> None:
    net, windows = network(), random_windows(40)
    flips = np.random.default_rng(1).random(40) < 0.5
    batch = batches_of(net, storage).batch(windows, flips)
    assert batch.inputs.dtype == np.float32
    np.testing.assert_array_equal(batch.labels, windows.labels)
    extract = SppExtractor(net, ["pool5"], SPP)
    for i, (image, box, flip) in enumerate(zip(windows.images, windows.boxes, flips, strict=True)):
        width = SHAPES[image][0]
        pixels = picture(image)[:, ::-1].copy() if flip else picture(image)
        seen = np.array([[width - box[2], box[1], width - box[0], box[3]]]) if flip else box[None]
        stored = extract(pixels, seen)["pool5"][0].astype(storage)
        np.testing.assert_array_equal(batch.inputs[i], stored.astype(np.float32))


def test_windows_of_both_scales_are_among_them() -> None:
    asked: list[tuple[int, int, bool]] = []
    batches = batches_of(network())

    def noting(name: tuple[int, int, bool]) -> Any:
        asked.append(name)
        return batches.maps[name]

    spied = pooled_windows(network(), noting, SHAPES, SPP, cache_bytes=0)
    spied.batch(random_windows(40))
    assert {scale for _, scale, _ in asked} == {64, 96}
    assert len(asked) == len(set(asked))  # each map once per batch


def test_between_two_scales_the_smaller_as_the_features_stage_has_it() -> None:
    side = 22 * 48 / 80  # of the 48 px high image: a region of this side wants 80 px, midway between 64 and 96
    box = np.array([[3, 4, 3 + side, 4 + side]], np.float32)
    asked: list[tuple[int, int, bool]] = []
    net, batches = network(), batches_of(network())

    def noting(name: tuple[int, int, bool]) -> Any:
        asked.append(name)
        return batches.maps[name]

    spied = pooled_windows(net, noting, SHAPES, SPP, cache_bytes=0)
    found = spied.batch(Windows(np.array([0]), box, np.array([1]))).inputs
    assert asked == [(0, 64, False)]
    np.testing.assert_array_equal(found, SppExtractor(net, ["pool5"], SPP)(picture(0), box)["pool5"].astype(np.float16))


def settings_of(**changes: Any) -> FinetuneSettings:
    values = {"iterations": 6, "fg_per_batch": 3, "bg_per_batch": 5, "lr": 0.01, "new_layer_lr": 2.0, "step": 4}
    values |= {"eval_every": 3, "checkpoint_every": 2, "held_out_fraction": 0.1}
    return FinetuneSettings(**(values | changes))


def without_dropout(net: Network) -> Network:
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return net


AUTHORS = {"sampling": "blocks", "new_layer_bias": 1.0, "decay_biases": True, "new_layer_lr": 1.0}


@pytest.mark.parametrize("authors", [{}, AUTHORS], ids=["as R-CNN", "as SPP-net's authors"])
def test_the_same_as_a_slow_trainer_with_torchs_own_solver(tmp_path: Path, authors: dict[str, Any]) -> None:
    """Vectors gathered first, then torch.optim.SGD on them; at one rate Caffe's momentum and torch's are the same.

    The authors' training file (FACTS.md sections 10, 16): fc8 starts at bias 1; biases learn twice as fast; those of
    fc6 and fc7 decay like weights, fc8's does not.
    """
    settings, windows, none = settings_of(step=1000, **authors), random_windows(60), random_windows(0)
    net = without_dropout(network())
    batches = batches_of(net)
    start = {name: value.clone() for name, value in net.state_dict().items()}
    training = training_run(settings, 5, 1)
    fine_tune(net, windows, none, batches, settings, training, Checkpoint(tmp_path, {}), Messages(), n_classes=3)

    own = without_dropout(network())
    own.new_head(4, torch_generator(5, "finetune", "new layer"))
    fc6, fc7, fc8 = (trunk_of(own).classifier[i] for i in (1, 4, 6))
    torch.nn.init.constant_(fc8.bias, 1.0 if authors else 0.0)
    rates = {fc6: 1.0, fc7: 1.0, fc8: settings.new_layer_lr}
    groups = [{"params": [f.weight], "lr": 0.01 * k, "weight_decay": 0.0005} for f, k in rates.items()]
    decay = {fc6: 0.0005, fc7: 0.0005, fc8: 0} if authors else dict.fromkeys(rates, 0)
    groups += [{"params": [f.bias], "lr": 0.02 * k, "weight_decay": decay[f]} for f, k in rates.items()]
    solver = torch.optim.SGD(groups, momentum=0.9)
    block = draw_block(windows, fg=3, bg=5, mirror=True, rng=generator(5, "finetune", "block", 0))
    for i in range(6):
        rng = generator(5, "finetune", "batch", i)
        rows, flips = block[i] if authors else draw_batch(windows, fg=3, bg=5, mirror=True, rng=rng)
        batch = batches.batch(windows.take(rows), flips)
        logits = fc8(torch.relu(fc7(torch.relu(fc6(torch.from_numpy(batch.inputs))))))
        solver.zero_grad()
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(batch.labels)).backward()
        solver.step()
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, own.state_dict()[name], rtol=1e-4, atol=1e-6)
        assert torch.equal(value, start[name]) == ("features" in name) or value.shape != start[name].shape
    assert not any(p.requires_grad for n, p in net.named_parameters() if "features" in n)
    assert all(p.requires_grad for n, p in net.named_parameters() if "classifier" in n)


def test_dropout_is_active_and_seeded(tmp_path: Path) -> None:
    windows, none = random_windows(60), random_windows(0)

    def trained(name: str, net: Network) -> torch.Tensor:
        settings = settings_of(iterations=1, checkpoint_every=1)
        training, folder = training_run(settings, 5, 1), Checkpoint(tmp_path / name, {})
        fine_tune(net, windows, none, batches_of(net), settings, training, folder, Messages(), n_classes=3)
        assert not any(module.training for module in net.modules())
        weight: torch.Tensor = trunk_of(net).classifier[1].weight
        return weight

    first, again = trained("a", network()), trained("b", network())
    free = trained("c", without_dropout(network()))
    assert torch.equal(first, again)
    assert not torch.equal(first, free)


class Project(StageContext):
    """Four images of an object each, proposals around it and elsewhere; ``test``: further ones, of that split."""

    image = staticmethod(picture_of)

    def __init__(
        self,
        root: Path,
        stop_at: int | None = None,
        net: Network | None = None,
        test: int = 0,
        storage: str = "float16",
        **changes: Any,
    ) -> None:
        spp = SppSettings(scales_px=SPP.scales_px, levels=LEVELS, target_side_px=22)
        features = FeaturesSettings(context_px=4, method="spp", spp=spp, storage=storage)
        groups = {"finetune": settings_of(**changes), "features": features}
        super().__init__(root, "finetune", groups, seed=3)
        self.log = Messages(stop_at)
        records = [record(i, boxes=[[5, 5, 35, 30]]) for i in range(len(SHAPES))]
        for i in range(test):
            other: dict[str, Any] = {"id": 20 + i, "file_name": f"test{i}.jpg", "split": "test", "splits": ("test",)}
            records.append(dataclasses.replace(records[i], **other))
        save_dataset(Dataset("toy", ("cat",), tuple(records)), self.place("manifest"))
        boxes = np.array([[6, 6, 35, 30], [20, 5, 45, 30], [40, 0, 48, 30], [0, 32, 30, 45]], np.float32)
        key = self.store.put(Recipe("proposals", 1, {}, {}), Payload({"boxes": boxes}, {"count": 4}, "hdf5"))
        Artifact("proposals", 1, {}, {}, tuple((r.id, key) for r in records), {}).write(self.place("proposals"))
        if not self.place("weights").exists():
            save_weights(self.place("weights"), net or network(), {})


def test_the_stage_leaves_the_convolutions_and_publishes_its_maps(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.run()
    before, after = load_weights(project.input("weights")), load_weights(project.output("weights"))
    for name, value in trunk_of(before).features.state_dict().items():
        assert torch.equal(value, trunk_of(after).features.state_dict()[name])
    assert weights_digest(before, ["pool5"]) == weights_digest(after, ["pool5"])
    assert not torch.equal(trunk_of(before).classifier[1].weight, trunk_of(after).classifier[1].weight)
    assert not torch.equal(trunk_of(before).classifier[4].weight, trunk_of(after).classifier[4].weight)
    assert after.n_outputs == 2
    assert after.pyramid == LEVELS
    entries, summary = project.listed("maps").entries, project.listed("maps").summary
    assert [image_id for image_id, _ in entries] == [10, 11, 12, 13]
    assert summary["scales_px"] == [64, 96]
    json.dumps(summary)
    rows = (tmp_path / "artifacts/finetune/curve.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in rows[1:]] == ["1", "3", "6"]
    names = {key: set(project.store.describe("finetune", key)["arrays"]) for _, key in entries}
    plain = {"conv5_64", "conv5_96"}
    both = plain | {"mirrored_64", "mirrored_96"}
    assert sorted(map(len, names.values())) == [2, 4, 4, 4]  # the image held out is never mirrored
    assert all(found in (plain, both) for found in names.values())


def test_other_rates_windows_and_head_compute_no_map_again(tmp_path: Path) -> None:
    first = Project(tmp_path)
    first.run()
    assert first.computed == [10, 11, 12, 13]
    for changes in ({"lr": 0.002}, {"fg_iou": 0.6}, {"iterations": 7, "fg_per_batch": 2}):
        again = Project(tmp_path, **changes)
        again.run()
        assert again.computed == []
    plain = Project(tmp_path, mirror=False)
    plain.run()
    assert len(plain.computed) == 3  # of the images trained on; the one held out had no mirror image before
    plain.input("weights").write_bytes(plain.output("weights").read_bytes())  # other fc layers
    after = Project(tmp_path)
    after.run()
    assert after.computed == []


@pytest.mark.parametrize("mirror", [True, False])
def test_weights_that_the_store_has_need_no_map_and_no_proposals(tmp_path: Path, mirror: bool) -> None:
    first = Project(tmp_path, mirror=mirror)
    first.run()
    maps, weights = first.listed("maps"), first.output("weights").read_bytes()
    assert first.tally.computed == 1  # the weights; StageContext counts the maps apart
    again = Project(tmp_path, mirror=mirror)
    again.run()
    assert again.listed("maps").entries == maps.entries  # gc spares them as before
    shutil.rmtree(again.store.path("finetune", maps.entries[1][1]))
    shutil.rmtree(tmp_path / "store/objects/proposals")
    again.run()
    assert again.listed("maps").entries == (maps.entries[0], *maps.entries[2:])
    assert (again.computed, again.tally.computed) == ([], 0)
    assert again.output("weights").read_bytes() == weights


def test_maps_are_of_the_precision_trained_at(tmp_path: Path) -> None:
    for precision in ("float32", "bfloat16"):
        project = Project(tmp_path, precision=precision, iterations=1)
        project.run()
        assert len(project.computed) == 4
        assert project.listed("maps").summary["arithmetic"] == precision


def test_background_far_from_every_object_can_be_left_out(tmp_path: Path) -> None:
    for low, count in ((0.0, 9), (0.1, 3)):  # of three images each: IoU .375, 0 and 0
        project = Project(tmp_path, bg_iou_low=low)
        project.run()
        assert f"6 foreground and {count} background windows of 3 images" in project.log.infos[0]


def test_resumed_is_to_the_bit_what_was_not_interrupted(tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for folder in (whole, stopped):
        folder.mkdir()
    Project(whole).run()
    for stop_at in (5, 6):
        with pytest.raises(InterruptedError):
            Project(stopped, stop_at=stop_at).run()
    resumed = Project(stopped)
    resumed.run()
    assert any("going on from the checkpoint at iteration 4" in line for line in resumed.log.infos)
    for name in ("weights.safetensors", "curve.csv"):
        folders = [folder / "artifacts/finetune" for folder in (whole, stopped)]
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    other = tmp_path / "other"
    with pytest.raises(InterruptedError):
        Project(other, stop_at=5).run()
    others = Project(other, storage="float32")
    others.run()
    assert not any("going on" in line for line in others.log.infos)


def test_a_cache_that_holds_nothing_changes_nothing(tmp_path: Path) -> None:
    found = []
    for folder, cache_mb in (("a", 1024), ("b", 0)):  # in one project the second would take the first's result
        project = Project(tmp_path / folder, image_cache_mb=cache_mb)
        project.run()
        found.append(project.output("weights").read_bytes())
    assert found[0] == found[1]


def test_another_test_image_trains_nothing_and_computes_no_map(tmp_path: Path) -> None:
    for test in (0, 1, 2):
        project = Project(tmp_path, test=test, image_cache_mb=test, checkpoint_every=test + 1)
        project.run()
        assert bool(project.log.seen) == (test == 0)
    assert project.computed == []
    assert project.tally.reused == 1


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (lambda: network(pyramid=None), r"fc6 of small takes 1024 values, the pyramid \[1, 2\] gives 320; "),
        (lambda: network(pyramid=(1, 3)), r"trained with, \[1, 3\], not \[1, 2\]; set features.spp.levels to it"),
        (
            lambda: build("squeezenet1_0", 5, generator=torch.Generator().manual_seed(0)),
            r"squeezenet1_0 has no fully connected layer that takes pool5; set network.pyramid and network.fc",
        ),
    ],
)
def test_a_network_that_does_not_fit_is_one_line_before_anything_is_computed(
    tmp_path: Path, net: Any, message: str
) -> None:
    project = Project(tmp_path, net=net())
    with pytest.raises(StageError, match=message) as caught:
        project.run()
    assert str(caught.value).startswith("finetune: with features.method: spp")
    assert "finetune.iterations to 0" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert project.computed == []


def test_maps_too_large_for_float16_are_named() -> None:
    net = network()
    with torch.no_grad():
        trunk_of(net).features[0].weight.mul_(1e7)
    with pytest.raises(StageError, match=r"0\.jpg: conv5 at 64 px reaches .*set features\.storage to float32"):
        batches_of(net)
    batches_of(net, "float32")


def test_what_computes_maps_can_be_sent_to_other_processes() -> None:
    net = network()
    compute = MapsCompute(picture_of, net, "cpu", maps_made_of(net, SPP.scales_px, "float32", "float16"))
    sent = pickle.loads(pickle.dumps(compute))
    task = map_task(record(1), compute.made_of, mirrored=True)
    here, there = compute(task).arrays, sent(task).arrays
    assert set(here) == {"conv5_64", "conv5_96", "mirrored_64", "mirrored_96"}
    for name, values in here.items():
        np.testing.assert_array_equal(values, there[name])


def test_no_iterations_publish_no_maps(tmp_path: Path) -> None:
    project = Project(tmp_path, iterations=0)
    project.run()
    assert (project.listed("maps").entries, project.listed("maps").summary) == ((), {"dataset": "toy"})


def test_a_new_head_is_trained(tmp_path: Path) -> None:
    made = build("squeezenet1_0", 5, generator=torch.Generator().manual_seed(0), pyramid=LEVELS, fc=(16, 8)).eval()
    project = Project(tmp_path, net=made)
    project.run()
    after = load_weights(tmp_path / "artifacts/finetune/weights.safetensors")
    assert (after.fc, after.n_outputs) == ((16, 8), 2)
    for i in (1, 4):
        assert not torch.equal(trunk_of(made).classifier[i].weight, trunk_of(after).classifier[i].weight)
    for name, value in trunk_of(made).features.state_dict().items():
        assert torch.equal(value, trunk_of(after).features.state_dict()[name])


def test_averages_are_not_fine_tuned_on() -> None:
    with pytest.raises(
        StageError, match=r"take maxima, and features\.spp\.pooling is average; set it to max, or finetune"
    ):
        checked_length(network(), dataclasses.replace(SPP, pooling="average"))
