"""Stages ``finetune_dense`` and ``regress`` on a tiny project: what is trained, when, and to which bits."""

import copy
import csv
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from dense_images import CLASSES, SCALES, picture, record, records, small
from stage_context import Messages, StageContext

from cache import Artifact
from cache.errors import StageError
from manifests import Dataset, ImageRecord, save_dataset
from stages.dense.maps import STAGE, VERSION, DenseMapsCompute, described, map_task
from stages.networks.forward import deterministic
from stages.networks.network import Network
from stages.networks.weights import class_names_meta, load_weights, save_weights, weights_digest
from stages.overfeat.classifier import load_classifier
from stages.overfeat.regressor import load_regressor
from stages.overfeat.settings import FinetuneDenseSettings, RegressSettings
from stages.overfeat.training import trained_on
from stages.settings import Settings

SMALL: dict[str, Any] = {"iterations": 6, "step": 4, "eval_every": 3, "checkpoint_every": 2, "images_per_batch": 2}
FINETUNE: dict[str, Any] = {"positives": 3, "random_negatives": 2, "offending_negatives": 2, "background_pool": 10}
REGRESS: dict[str, Any] = {"units": (8, 6), "batch": 10}
NODES = ("finetune_dense", "regress")
TEST = dataclasses.replace(record(0), id=30, file_name="t.png", sha256="f" * 64, split="test", splits=("test",))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with deterministic():
        yield


class Project(StageContext):
    """Three training images, of which none is held out unless asked, and further ones in ``more``; and their maps."""

    def __init__(
        self,
        root: Path,
        name: str,
        *,
        stop_at: int | None = None,
        network: Network | None = None,
        of: list[ImageRecord] | None = None,
        held_out: float = 0,
        maps_of: Network | None = None,
        **changes: Any,
    ) -> None:
        own = name == "finetune_dense"
        finetune = {**SMALL, **FINETUNE, "held_out_fraction": held_out, **(changes if own else {})}
        regress = {**SMALL, **REGRESS, **({} if own else changes)}
        groups: dict[str, Settings] = {
            "finetune_dense": FinetuneDenseSettings(**finetune),
            "regress": RegressSettings(**regress),
        }
        super().__init__(root, name, groups, seed=3, kind="overfeat")
        self.log = Messages(stop_at)
        net = network or small()
        images = records() if of is None else of
        save_dataset(Dataset("toy", CLASSES, tuple(images)), self.place("manifest"))
        save_weights(self.place("weights"), net, class_names_meta(("ant", "cow", "bee")))
        self.images = images
        self._list_maps(maps_of or net)

    def _list_maps(self, network: Network) -> None:
        made_of = described(network, SCALES, "float16")
        tasks = [map_task(one, made_of, mirrored=one.split == "train") for one in self.images]
        self.compute_images(tasks, DenseMapsCompute(picture, network, "cpu", made_of))
        self.computed.clear()
        self.map_keys = [task.recipe.key for task in tasks]
        entries = tuple((one.id, key) for one, key in zip(self.images, self.map_keys, strict=True))
        inputs = self.made([], {}).inputs
        Artifact(STAGE, VERSION, {}, inputs, entries, made_of | {"mirrored": True}).write(self.place("maps"))

    def curve(self) -> list[dict[str, str]]:
        with self.output("curve").open() as file:
            return list(csv.DictReader(file))

    @property
    def weights(self) -> bytes:
        return self.output("weights").read_bytes()


def ran(root: Path, name: str, **options: Any) -> Project:
    project = Project(root, name, **options)
    project.run()
    return project


def state(network: Network) -> dict[str, torch.Tensor]:
    return copy.deepcopy(network.trunk.state_dict())


@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("context", [False, True])
def test_the_classifier_is_trained_and_the_convolutions_are_not(tmp_path: Path, normed: bool, context: bool) -> None:
    project = ran(tmp_path, "finetune_dense", network=small(normed=normed), context=context)
    before, found = load_weights(project.input("weights")), load_classifier(project.output("weights"))
    old, new = state(before), state(found.network)
    same = {name for name in old if torch.equal(old[name], new[name])}
    assert same == {name for name in old if name.startswith("features")}
    assert weights_digest(before, [before.conv5]) == weights_digest(found.network, [found.network.conv5])
    assert (found.classes, found.columns, found.background, found.network.n_outputs) == (CLASSES, (1, 2), True, 3)
    assert found.context == context and (found.around is None or bool(found.around.weight.any()))
    rows = project.curve()
    assert [row["iteration"] for row in rows] == ["1", "3", "6"]
    assert set(rows[0]) == {"iteration", "train_loss"} and all(float(row["train_loss"]) > 0 for row in rows)
    assert "windows on objects" in project.log.infos[0] and project.log.warnings == []


@pytest.mark.parametrize("per_class", [False, True])
def test_the_regressor_is_trained(tmp_path: Path, per_class: bool) -> None:
    project = ran(tmp_path, "regress", per_class=per_class)
    found, network = load_regressor(project.output("weights")), load_weights(project.input("weights"))
    assert (found.classes, found.per_class, found.units, found.length) == (CLASSES, per_class, (8, 6), 1024)
    found.check_conv(weights_digest(network, [network.conv5]), "r")
    first = ran(tmp_path / "one", "regress", per_class=per_class, iterations=1)
    assert found.digest != load_regressor(first.output("weights")).digest
    assert [row["iteration"] for row in project.curve()] == ["1", "3", "6"]
    assert "windows that hold an object" in project.log.infos[0] and project.log.warnings == []


@pytest.mark.parametrize("name", NODES)
def test_training_lowers_the_loss(tmp_path: Path, name: str) -> None:
    own: dict[str, dict[str, Any]] = {
        "finetune_dense": {"dropout": False, "offending_negatives": 0, "lr": 0.02},
        "regress": {"units": (64, 32), "batch": 32},
    }
    project = ran(tmp_path, name, iterations=80, step=70, eval_every=20, network=small(normed=True), **own[name])
    losses = [float(row["train_loss"]) for row in project.curve()]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", NODES)
def test_a_stopped_training_ends_with_the_same_bits(tmp_path: Path, name: str) -> None:
    straight = ran(tmp_path / "straight", name)
    stopped = Project(tmp_path / "stopped", name, stop_at=5)
    with pytest.raises(InterruptedError):
        stopped.run()
    resumed = ran(tmp_path / "stopped", name)
    assert resumed.log.seen == [5, 6]  # from the checkpoint of iteration 4
    assert resumed.weights == straight.weights and resumed.curve() == straight.curve()
    assert list(resumed.work_dir().iterdir()) == []


@pytest.mark.parametrize("name", NODES)
def test_what_the_store_has_is_not_trained_and_reads_no_map(tmp_path: Path, name: str) -> None:
    first = ran(tmp_path, name)
    weights = first.weights
    again = Project(tmp_path, name, checkpoint_every=3, image_cache_mb=1)
    for key in again.map_keys:
        shutil.rmtree(again.store.path(STAGE, key))
    again.run()
    assert (again.log.seen, again.weights, again.tally.reused) == ([], weights, 1)


@pytest.mark.parametrize("name", NODES)
def test_another_test_image_trains_nothing_and_another_training_image_does(tmp_path: Path, name: str) -> None:
    first = ran(tmp_path, name).weights
    more = ran(tmp_path, name, of=[*records(), TEST])
    assert more.log.seen == [] and more.weights == first
    fewer = ran(tmp_path, name, of=records()[1:])
    assert fewer.log.seen != [] and fewer.weights != first
    assert ran(tmp_path, name, lr=0.001).weights != first


def test_other_fully_connected_layers_train_no_regressor_and_other_maps_do(tmp_path: Path) -> None:
    first = ran(tmp_path, "regress").weights
    other = small()
    with torch.no_grad():
        for parameter in other.fc_graph(["fc8"]).parameters():
            parameter.add_(0.1)
    same = ran(tmp_path, "regress", network=other)
    assert same.log.seen == [] and same.weights == first
    again = ran(tmp_path, "regress", network=small(1))
    assert again.log.seen != [] and again.weights != first


@pytest.mark.parametrize("name", NODES)
def test_images_held_out_are_not_trained_on(tmp_path: Path, name: str) -> None:
    """Training with one of three held out is training on the other two."""
    held = ran(tmp_path / "held", name, held_out=0.3)
    assert "of 2 images" in held.log.infos[0]
    left = trained_on(records(), 0.3, 3)
    assert len(left) == 2
    assert ran(tmp_path / "two", name, of=left).weights == held.weights


@pytest.mark.parametrize("name", NODES)
def test_maps_of_other_weights_or_images_are_refused(tmp_path: Path, name: str) -> None:
    project = Project(tmp_path / "a", name, maps_of=small(1))
    with pytest.raises(
        StageError, match=r"^artifacts/detectors/overfeat/maps/manifest.json: maps of another weights_digest"
    ):
        project.run()
    project = Project(tmp_path / "b", name)
    save_dataset(Dataset("toy", CLASSES, (*project.images, TEST)), project.place("manifest"))
    with pytest.raises(StageError, match="made of another dataset or of other images"):
        project.run()
    project = Project(tmp_path / "c", name)
    listed = project.artifact("maps")
    dataclasses.replace(listed, entries=listed.entries[1:]).write(project.place("maps"))
    with pytest.raises(StageError, match=r"^0.png: has no stored maps; run the stage maps again"):
        project.run()
    project = Project(tmp_path / "d", name)
    Artifact("maps", 1, {}, listed.inputs, listed.entries, {"layer": "features.11"}).write(project.place("maps"))
    with pytest.raises(StageError, match="maps of another network and weights_digest"):
        project.run()


@pytest.mark.parametrize("name", NODES)
def test_maps_without_mirror_images_are_refused_where_those_are_trained_on(tmp_path: Path, name: str) -> None:
    project = Project(tmp_path, name, mirror=True)
    listed = project.artifact("maps")
    dataclasses.replace(listed, summary={**listed.summary, "mirrored": False}).write(project.place("maps"))
    with pytest.raises(StageError, match="has no maps of mirror images; run `dvc repro`"):
        project.run()


def test_outputs_of_the_datasets_own_classification_set_are_its_classes(tmp_path: Path) -> None:
    network = small()
    network.new_head(len(CLASSES), torch.Generator().manual_seed(0))
    project = Project(tmp_path, "finetune_dense", iterations=0, maps_of=network)
    save_weights(project.place("weights"), network, {"source": "classification set"})
    project.run()
    assert load_classifier(project.output("weights")).columns == (0, 1)
    assert "they are taken for its classes in their order" in project.log.warnings[0]


def test_without_iterations_the_network_is_passed_on(tmp_path: Path) -> None:
    project = ran(tmp_path, "finetune_dense", iterations=0)
    found, before = load_classifier(project.output("weights")), load_weights(project.input("weights"))
    assert (found.background, found.columns, found.classes) == (False, (0, 2), CLASSES)
    old, new = state(before), state(found.network)
    assert all(torch.equal(old[name], new[name]) for name in old)
    assert project.output("curve").read_text() == "iteration,train_loss\n"
    assert project.listed("trained").entries == ()


def test_without_iterations_a_class_without_an_output_is_told(tmp_path: Path) -> None:
    project = Project(tmp_path, "finetune_dense", iterations=0)
    save_weights(project.place("weights"), small(), class_names_meta(("ant", "cow", "dog")))
    with pytest.raises(StageError, match=r"pretrain/weights.safetensors has no output for bee; train it on windows"):
        project.run()


@pytest.mark.parametrize(
    ("name", "told"), [("finetune_dense", "no window on an object"), ("regress", "no window that holds an object")]
)
def test_a_class_without_windows_is_told_of(tmp_path: Path, name: str, told: str) -> None:
    of = [record(0, [[8, 6, 58, 60]], [0]), record(1, [], []), record(2)]
    options = {"per_class": True} if name == "regress" else {}
    project = ran(tmp_path, name, of=of, **options)
    (warning,) = project.log.warnings
    assert f"class 'bee' has {told}" in warning


def test_a_rate_that_throws_the_weights_off_names_the_images(tmp_path: Path) -> None:
    project = Project(tmp_path, "regress", lr=10, iterations=200, momentum=0.99, weight_decay=1)
    with pytest.raises(
        StageError, match=r"^regress: the loss became (nan|inf) at iteration .*, on \d\.png.*lower regress.lr"
    ):
        project.run()


@pytest.mark.parametrize("active", [False, True])
def test_dropout_is_as_asked(tmp_path: Path, active: bool) -> None:
    """Masks are drawn anew in each run, the same ones; without them the weights are others."""
    first, again = (ran(tmp_path / str(i), "finetune_dense", dropout=active) for i in (0, 1))
    plain = ran(tmp_path / "2", "finetune_dense", dropout=False)
    assert first.weights == again.weights
    assert (first.weights == plain.weights) != active


def test_context_of_a_classifier_as_it_is_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(context\) is not looked at .* \(iterations: 0\); set context to false"):
        FinetuneDenseSettings(iterations=0, context=True)
