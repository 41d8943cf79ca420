"""What a run does about the damaged and missing objects of an earlier stage; tests/faults has it with the real ones."""

import json
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from toy_stage import toy_node

from cache import CorruptObjectError, MissingObjectError, Payload, Store
from cache.errors import InterruptedRun
from pipeline.detectors import Layout
from pipeline.params import parse_params
from pipeline.run import run_node
from stages.contract import Compute, Context, ImageTask, Node

PARAMS = parse_params(yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8")))
MANIFEST = "artifacts/toy/manifest.json"
Hook = Callable[[ImageTask], None]


@dataclass(frozen=True)
class Toy(Compute):
    """Three numbers, after whatever ``hook`` does."""

    hook: Hook

    def __call__(self, task: ImageTask) -> Payload:
        self.hook(task)
        return Payload({"x": np.arange(3)}, {"count": 3, "image": task.image.file_name}, "hdf5")


@dataclass
class Chain:
    """Stage ``toy`` makes three objects, ``reader`` reads them; both in one project that has run once."""

    project: Path
    make_task: Callable[..., ImageTask]
    hook: Hook = lambda task: None
    summary: dict[str, Any] = field(default_factory=dict)
    also_read: str | None = None

    @property
    def nodes(self) -> dict[str, Node]:
        manifest = {"manifest": MANIFEST}
        toy = toy_node("toy", self._toy, inputs={"settings": "toy.txt"}, outputs=manifest, seeded=True)
        reader = toy_node("reader", self._read, inputs={"toy": MANIFEST}, outputs={"text": "reader.txt"})
        return {"toy": toy, "reader": reader}

    def run(self, name: str) -> None:
        run_node(name, Layout(self.project), PARAMS)

    @property
    def store(self) -> Store:
        return Store(self.project / "artifacts")

    @property
    def keys(self) -> list[str]:
        return [key for _, key in json.loads((self.project / MANIFEST).read_text())["entries"]]

    def lose(self, *indices: int) -> None:
        for index in indices:
            shutil.rmtree(self.store.path("toy", self.keys[index]))

    def left_behind(self) -> list[Path]:
        return [*self.project.rglob(".partial"), *(self.project / "artifacts/tmp").iterdir()]

    def references(self) -> set[str]:
        return {path.name for path in (self.project / "artifacts/refs").iterdir()}

    def _toy(self, ctx: Context) -> None:
        tasks = [self.make_task(number, number) for number in range(3)]
        keys = ctx.compute_images(tasks, Toy(self.hook))
        ctx.publish("manifest", list(enumerate(keys)), self.summary)

    def _read(self, ctx: Context) -> None:
        with ctx.output("text").open("x") as out:  # "x": nothing of an earlier attempt is in the way
            for key in [*ctx.artifact("toy").keys.values(), *filter(None, [self.also_read])]:
                out.write(f"{ctx.store.get('toy', key).arrays['x'].sum()}\n")


@pytest.fixture
def chain(tmp_path: Path, task: Callable[..., ImageTask], monkeypatch: pytest.MonkeyPatch) -> Chain:
    chain = Chain(tmp_path, task)
    (tmp_path / "toy.txt").write_text("as it was")
    monkeypatch.setattr("pipeline.run.nodes_of", lambda *_: chain.nodes)
    monkeypatch.delenv("RCNN_STORE", raising=False)
    chain.run("toy")
    return chain


def test_a_gap_is_filled_and_nothing_else_changes(chain: Chain, capsys: pytest.CaptureFixture[str]) -> None:
    manifest, references = (chain.project / MANIFEST).stat(), chain.references()
    timed = json.loads((chain.project / "reports/timings.json").read_text())["toy"]
    chain.lose(0, 2)
    chain.run("reader")
    assert (chain.project / "reader.txt").read_text() == "3\n3\n3\n"
    said = capsys.readouterr().err
    assert f"reader: warning: toy object {chain.keys[0]} is gone; computing again what the store lacks of toy" in said
    assert "toy: 2 images computed, 1 found in the store" in said
    assert said.count("warning") == 1
    after = (chain.project / MANIFEST).stat()
    assert (after.st_ino, after.st_mtime_ns) == (manifest.st_ino, manifest.st_mtime_ns)
    assert json.loads((chain.project / "reports/timings.json").read_text())["toy"] == timed
    assert chain.references() == references
    assert not chain.left_behind()


def test_the_objects_are_safe_from_gc_while_they_are_computed(chain: Chain) -> None:
    shutil.rmtree(chain.project / "artifacts/refs")
    named: list[set[str]] = []
    chain.hook = lambda task: named.append({k for a in chain.store.references().values() for k in a.keys.values()})
    chain.lose(1)
    chain.run("reader")
    assert named == [set(chain.keys)]


@pytest.mark.parametrize("change", ["input", "params", "result", "not listed", "all gone", "input gone"])
def test_what_would_not_give_the_same_is_left_to_the_user(
    chain: Chain, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    computed: list[int] = []
    chain.hook = lambda task: computed.append(task.image.id)
    manifest = chain.project / MANIFEST
    body = json.loads(manifest.read_text())
    if change == "input":
        (chain.project / "toy.txt").write_text("another")
    elif change == "input gone":
        (chain.project / "toy.txt").unlink()
    elif change == "params":
        manifest.write_text(json.dumps({**body, "params": {"seed": -1}}))
    elif change == "result":
        chain.summary = {"recall": 1}
    elif change == "not listed":
        chain.also_read = "0" * 64
    chain.lose(*(range(3) if change == "all gone" else [1] if change != "not listed" else []))
    before = manifest.read_bytes()
    with pytest.raises(MissingObjectError, match=r"has no toy object .*; run `dvc repro -f -s toy`"):
        chain.run("reader")
    assert computed == ([1] if change == "result" else [])
    assert ("computing again" in capsys.readouterr().err) == (change == "result")
    assert manifest.read_bytes() == before
    assert not (chain.project / "reader.txt").exists()
    assert not chain.left_behind()


def ctrl_c() -> None:
    raise KeyboardInterrupt  # not by the signal, which a shell lets its background jobs ignore


@pytest.mark.parametrize("interrupt", [ctrl_c, lambda: signal.raise_signal(signal.SIGTERM)], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupt_leaves_nothing_and_the_next_run_goes_on(
    chain: Chain, interrupt: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    references = chain.references()
    chain.lose(1)
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.context.Reporter.progress", lambda *args: interrupt())
        with pytest.raises(InterruptedRun):
            chain.run("reader")
    assert not chain.left_behind()
    assert chain.references() == references
    chain.run("reader")
    assert (chain.project / "reader.txt").read_text() == "3\n3\n3\n"


def test_a_disk_that_damages_whatever_is_written_ends_the_run(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    chain.hook = lambda task: computed.append(task.image.id)
    real = Store.get

    def damaged(store: Store, stage: str, key: str, *names: Any) -> Any:
        data = store.path(stage, key) / "data.h5"
        data.chmod(0o644)
        data.write_bytes(bytes(data.stat().st_size))
        return real(store, stage, key, *names)

    monkeypatch.setattr(Store, "get", damaged)
    with pytest.raises(CorruptObjectError, match="moved to quarantine"):
        chain.run("reader")
    assert len(computed) == 100


def test_filling_the_gap_counts_as_nobodys_time(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    passed, real = [0.0], time.monotonic
    monkeypatch.setattr("time.monotonic", lambda: real() + passed[0])
    chain.hook = lambda task: passed.__setitem__(0, passed[0] + 1e6)
    chain.lose(1)
    chain.run("reader")
    assert passed[0] == 1e6
    assert json.loads((chain.project / "reports/timings.json").read_text())["reader"]["seconds"] < 1e5
