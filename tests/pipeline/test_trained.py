"""``ctx.trained``: what a stage trained is an object of the store, and is trained once."""

import errno
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from refusing import refuse_writes
from toy_stage import toy_node

from cache import Artifact, Store
from pipeline.cli import cli
from pipeline.detectors import Layout
from pipeline.params import parse_params
from pipeline.run import run_node
from stages.contract import Context, Node
from stages.graph import SVM, root_nodes

PARAMS = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8"))
OUTPUTS = root_nodes()["svm"].outputs


@dataclass
class Trainer:
    """A node in svm's place that trains on ``data.txt``; ``trained`` counts how often it did."""

    project: Path
    settings: dict[str, Any] = field(default_factory=dict)
    trained: int = 0

    @property
    def node(self) -> Node:
        return toy_node("svm", self._run, inputs={"data": "data.txt"}, outputs=OUTPUTS, trained=SVM.trained)

    def run(self, **execution: Any) -> None:
        params = parse_params({**PARAMS, "execution": {**PARAMS["execution"], **execution}})
        run_node("svm", Layout(self.project), params)

    @property
    def store(self) -> Store:
        return Store(self.project / "artifacts")

    @property
    def listed(self) -> Artifact:
        return Artifact.read(self.project / OUTPUTS["trained"])

    @property
    def key(self) -> str:
        return self.listed.keys[0]

    def outputs(self) -> dict[str, bytes]:
        return {name: (self.project / path).read_bytes() for name, path in OUTPUTS.items()}

    def _run(self, ctx: Context) -> None:
        data = ctx.input("data").read_bytes()

        def train() -> None:
            self.trained += 1
            ctx.output("model").write_bytes(b"trained on " + data)
            ctx.output("mining").write_bytes(b"")

        ctx.trained(self.settings, {"data": data.decode()}, train)


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    """One that has trained once."""
    trainer = Trainer(tmp_path)
    monkeypatch.setattr("pipeline.run.nodes_of", lambda *_: {"svm": trainer.node})
    monkeypatch.delenv("RCNN_STORE", raising=False)
    (tmp_path / "data.txt").write_text("seven")
    (tmp_path / "params.yaml").write_text("dataset: scenes\n")
    trainer.run()
    assert trainer.trained == 1
    return trainer


def rcnn(project: Path, *arguments: str) -> str:
    done = CliRunner().invoke(cli, ["-C", str(project), *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_what_was_trained_is_taken_from_the_store_with_the_same_bytes(
    trainer: Trainer, capsys: pytest.CaptureFixture[str]
) -> None:
    before = trainer.outputs()
    assert before["model"] == b"trained on seven" and before["mining"] == b""
    for path in OUTPUTS.values():
        (trainer.project / path).unlink()
    capsys.readouterr()
    for workers in (1, 2):
        trainer.run(workers=workers)
        assert "svm: trained before, from the same images with the same parameters" in capsys.readouterr().err
    assert trainer.trained == 1
    assert trainer.outputs() == before


def test_a_change_trains_and_a_change_back_does_not(trainer: Trainer) -> None:
    first, data = trainer.outputs(), trainer.project / "data.txt"
    trainer.settings = {"C": 2}
    trainer.run()
    data.write_text("eight")
    trainer.run()
    assert (trainer.trained, trainer.outputs()["model"]) == (3, b"trained on eight")
    data.write_text("seven")
    trainer.settings = {}
    trainer.run()
    assert trainer.trained == 3
    assert trainer.outputs() == first


def test_a_damaged_object_is_trained_again(trainer: Trainer, capsys: pytest.CaptureFixture[str]) -> None:
    before, file = trainer.outputs(), trainer.store.path("svm", trainer.key) / "data.h5"
    file.chmod(0o644)
    file.write_bytes(file.read_bytes().replace(b"trained on", b"trained off"[:10]))
    trainer.run()
    assert f"svm: warning: svm object {trainer.key} was damaged and is in quarantine; computing it again" in (
        capsys.readouterr().err
    )
    assert trainer.trained == 2
    assert trainer.outputs() == before
    trainer.run()
    assert trainer.trained == 2


def test_a_training_that_ends_badly_leaves_nothing(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    before = trainer.outputs()
    trainer.settings = {"C": 2}

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.context.np.fromfile", stopped)  # between the training and its being kept
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert trainer.outputs() == before
    assert not list(trainer.project.rglob(".partial"))
    assert len(list((trainer.project / "artifacts/objects/svm").glob("*/*"))) == 1


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES], ids=errno.errorcode.get)
def test_beside_a_store_that_can_only_be_read_the_outputs_are_written(
    trainer: Trainer, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store = tmp_path / "artifacts"
    mine = Trainer(tmp_path / "mine")
    mine.project.mkdir()
    (mine.project / "data.txt").write_text("seven")
    monkeypatch.setattr("pipeline.run.nodes_of", lambda *_: {"svm": mine.node})
    monkeypatch.setenv("RCNN_STORE", str(store))
    refuse_writes(monkeypatch, store, number)
    capsys.readouterr()
    mine.run()
    assert (mine.trained, mine.outputs()) == (0, trainer.outputs())
    assert "so that `rcnn cache gc` by its owner does not know" in capsys.readouterr().err
    mine.settings = {"C": 2}
    mine.run()
    said = capsys.readouterr().err
    assert f"svm: warning: {store}: this user may only read this store; what was trained is not kept there" in said
    assert mine.trained == 1
    assert mine.outputs()["model"] == b"trained on seven"
    assert len(list((store / "objects/svm").glob("*/*"))) == 1


def test_gc_keeps_what_the_workspace_has_and_what_is_registered(trainer: Trainer) -> None:
    first = trainer.key
    trainer.settings = {"C": 2}
    trainer.run()
    rcnn(trainer.project, "cache", "gc", "--grace", "0", "--delete")  # both are registered
    assert not trainer.store.missing("svm", [first, trainer.key])
    rcnn(trainer.project, "cache", "gc", "--workspace", "--grace", "0", "--delete")
    assert trainer.store.missing("svm", [first, trainer.key]) == {first}
    for reference in (trainer.project / "artifacts/refs").iterdir():
        reference.unlink()
    rcnn(trainer.project, "cache", "gc", "--workspace", "--grace", "0", "--delete")
    assert not trainer.store.missing("svm", [trainer.key])
    assert "1 objects" in rcnn(trainer.project, "cache", "verify")


def test_it_is_listed(trainer: Trainer) -> None:
    assert trainer.key[:12] in rcnn(trainer.project, "cache", "ls", "svm")
    assert trainer.key[:12] in rcnn(trainer.project, "cache", "ls", "svm", "--dataset", "scenes")
    (row,) = rcnn(trainer.project, "cache", "ls").splitlines()[1:]
    assert "svm" in row and "*" in row
    assert "model.h5" in rcnn(trainer.project, "cache", "show", trainer.key[:12])


def test_the_copy_of_a_store_brings_what_was_trained(trainer: Trainer, tmp_path: Path) -> None:
    assert "1 objects" in rcnn(trainer.project, "cache", "push", str(tmp_path / "shared"))
    assert not Store(tmp_path / "shared").missing("svm", [trainer.key])


def test_every_stage_that_trains_lists_it() -> None:
    nodes = {name: node for name, node in root_nodes().items() if node.stage.trained}
    assert set(nodes) == {"pretrain", "finetune", "svm", "bbox", "svr"}
    for node in nodes.values():
        assert Path(node.outputs["trained"]).name == "trained.json"  # what gc and verify look for
