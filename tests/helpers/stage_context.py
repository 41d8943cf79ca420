"""What the tests of several stages run them with: a log that remembers, and a context over a real store."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cache import Artifact
from manifests import ImageRecord
from pipeline.context import RunContext
from pipeline.detectors import Layout
from pipeline.params import schema
from stages.contract import Compute, ImageTask, ReadImage
from stages.graph import HEAD, KINDS, ROOT, analyses, at, root_nodes
from stages.settings import Settings


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


def _no_pixels(record: ImageRecord) -> Any:
    raise AssertionError(f"no pixels of {record.file_name} were to be read")


class StageContext(RunContext):
    """The pipeline's own context for node ``name`` in the project ``root``.

    The node is the root's detector's, or that of a detector of another ``kind``, whose name is its kind's.

    What differs: it asks for no params.yaml, its messages are kept, outputs are written in their places at once, and
    images are computed one after another. ``computed`` are the ids of those whose objects the store lacked.
    """

    image: ReadImage = staticmethod(_no_pixels)  # a test whose stage looks at pixels sets another
    log: Messages  # type: ignore[assignment]

    def __init__(
        self, root: Path, name: str, groups: Mapping[str, Settings], seed: int = 0, *, kind: str = ROOT
    ) -> None:
        nodes = (
            dict(root_nodes()) if kind == ROOT else {one.name: at(one, kind) for one in (*HEAD, *KINDS[kind].places)}
        )
        nodes |= {one.name: at(one, kind) for one in analyses(KINDS[kind])}
        execution = {"workers": 2, "device": "cpu"}
        params = schema(kind)(seed=seed, dataset="toy", store={"root": "store"}, execution=execution)
        super().__init__(nodes[name], Layout(root, kind), params.model_copy(update=dict(groups)), nodes)
        self.root, self.log = root, Messages()
        self.computed: list[int] = []

    def change(self, **values: Any) -> None:
        """Set other parameters: ``seed``, or whole groups."""
        self._params = self._params.model_copy(update=values)

    def update(self, group: str, **values: Any) -> None:
        """Set other parameters of one group."""
        self.change(**{group: getattr(self._params, group).model_copy(update=values)})

    def run(self) -> None:
        """Run the node's stage."""
        self.node.stage.load()(self)

    def place(self, name: str) -> Path:
        """Where an input is to be, for a test to write it there; its folder exists."""
        path = self._path(self.node.inputs[name])
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def output(self, name: str) -> Path:
        path = self._declared(self.node.outputs, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def listed(self, name: str = "manifest") -> Artifact:
        """What the stage has published."""
        return Artifact.read(self.output(name))

    def compute_images(self, tasks: Sequence[ImageTask], compute: Compute, *, unit: str = "regions") -> list[str]:
        compute.prepare()
        for task in tasks:
            if not self.store.has(task.recipe.stage, task.recipe.key):
                self.store.put(task.recipe, compute(task))
                self.computed.append(task.image.id)
        return [task.recipe.key for task in tasks]

    def after_commit(self, action: Callable[[], None]) -> None:
        action()
