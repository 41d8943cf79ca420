"""A stage whose store refuses every write: a read-only file system, or no permission."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from refusing import refuse_writes
from toy_stage import toy_node

from cache import Payload, Store, StoreError, StorePermissionError
from pipeline.context import RunContext
from pipeline.detectors import Layout
from pipeline.params import parse_params
from stages.contract import Compute, Context, ImageTask

PARAMS = parse_params(yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8")))
MakeTask = Callable[..., ImageTask]


class Toy(Compute):
    def __call__(self, task: ImageTask) -> Payload:
        return Payload({"x": np.arange(3)}, {"count": 3, "image": task.image.file_name}, "hdf5")


def run(project: Path, tasks: list[ImageTask]) -> None:
    def stage_run(ctx: Context) -> None:
        keys = ctx.compute_images(tasks, Toy())
        ctx.publish("manifest", list(enumerate(keys)), {})

    node = toy_node("toy", stage_run, outputs={"manifest": "artifacts/toy/manifest.json"})
    context = RunContext(node, Layout(project), PARAMS, {"toy": node})
    stage_run(context)
    context.commit()


@pytest.fixture
def tasks(task: MakeTask) -> list[ImageTask]:
    return [task(number, number) for number in range(3)]


@pytest.fixture
def store(tmp_path: Path, tasks: list[ImageTask], monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store of ``tmp_path / "theirs"``, which has run; RCNN_STORE names it for others, too."""
    monkeypatch.setenv("RCNN_STORE", str(tmp_path / "store"))
    run(tmp_path / "theirs", tasks)
    return Store(tmp_path / "store")


@pytest.fixture(params=[errno.EROFS, errno.EACCES, errno.EPERM], ids=errno.errorcode.get)
def refuse(request: pytest.FixtureRequest, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_writes(monkeypatch, Path(store.root), request.param)


@pytest.mark.usefixtures("refuse")
def test_a_stage_with_nothing_to_compute_runs(
    tmp_path: Path, tasks: list[ImageTask], store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    run(tmp_path / "mine", tasks)
    theirs, mine = (tmp_path / name / "artifacts/toy/manifest.json" for name in ("theirs", "mine"))
    assert mine.read_bytes() == theirs.read_bytes()
    said = capsys.readouterr().err
    assert said.count("warning") == 1
    assert f"{store.root}: this user may only read this store, so that `rcnn cache gc` by its owner" in said


@pytest.mark.usefixtures("refuse")
def test_a_stage_with_something_to_compute_says_so(
    tmp_path: Path, tasks: list[ImageTask], task: MakeTask, store: Store
) -> None:
    with pytest.raises(StoreError) as refused:
        run(tmp_path / "mine", [*tasks, task(8, 8), task(9, 9)])
    assert str(refused.value).startswith(f"{store.root}: this user may only read this store, and it lacks 2 objects of")
    assert len(list((Path(store.root) / "objects/toy").glob("*/*"))) == 3
    assert not list((tmp_path / "mine").rglob("manifest.json"))


def test_what_was_computed_is_never_left_unregistered(
    tmp_path: Path, task: MakeTask, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Store.register

    def register(self: Store, artifact: Any) -> Any:
        if not artifact.unfinished:
            raise StorePermissionError("refs: no permission")
        return real(self, artifact)

    monkeypatch.setattr(Store, "register", register)
    with pytest.raises(StorePermissionError, match="refs"):
        run(tmp_path / "mine", [task(9, 9)])
