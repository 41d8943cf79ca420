"""What the tests of several stages run them with: a log that remembers, and a context over a real store."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cache import Artifact, Store
from manifests import Dataset, load_dataset
from stages.contract import Stage


class Messages:
    """Remembers what it is told; ``seen`` is what progress counted up to. With ``stop_at`` it interrupts there."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.infos: list[str] = []
        self.warnings: list[str] = []
        self.seen: list[int] = []
        self.stop_at = stop_at

    def info(self, message: str) -> None:
        self.infos.append(message)

    def warning(self, message: str) -> None:
        self.warnings.append(message)

    def progress(self, done: int, total: int, unit: str, note: str = "") -> None:
        assert 0 < done <= total
        self.seen.append(done)
        if done == self.stop_at:
            raise InterruptedError


class StageContext:
    """Runs ``stage`` in the folder ``root``, its files at their declared paths, images one after another.

    ``computed`` are the ids of images whose objects the store lacked.
    """

    workers = 2
    device = "cpu"

    def __init__(self, root: Path, stage: Stage, groups: dict[str, Any], seed: int = 0) -> None:
        self.root, self.stage, self.groups, self.seed = root, stage, groups, seed
        self.store, self.log = Store(root / "store"), Messages()
        self.computed: list[int] = []

    def settings(self, group: str) -> Any:
        assert group in self.stage.groups
        return self.groups[group]

    def input(self, name: str) -> Path:
        return self.root / self.stage.inputs[name]

    def output(self, name: str) -> Path:
        path = self.root / self.stage.outputs[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def dataset(self) -> Dataset:
        return load_dataset(self.input("manifest"))

    def artifact(self, name: str) -> Artifact:
        return Artifact.read(self.input(name))

    def compute_images(self, tasks: Any, compute: Any, *, unit: str = "regions") -> list[str]:
        compute.prepare()
        for task in tasks:
            if not self.store.has(task.recipe.stage, task.recipe.key):
                self.store.put(task.recipe, compute(task))
                self.computed.append(task.image.id)
        return [task.recipe.key for task in tasks]

    def publish(self, name: str, entries: Any, summary: Any) -> None:
        self.published = Artifact(self.stage.name, self.stage.version, {}, {}, tuple(entries), summary)
        self.published.write(self.output(name))

    def work_dir(self) -> Path:
        return self.root / "work"

    def after_commit(self, action: Callable[[], None]) -> None:
        action()
