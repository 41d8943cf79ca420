"""Runs name the environment they compute in, tell of objects of another one, and keep them apart where asked to."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from toy_stage import toy_node

from cache import Payload, Recipe, Store
from cache.environment import Environment, present
from cache.errors import ExecutionError
from cache.record import object_files
from pipeline import environments
from pipeline.context import RunContext
from pipeline.detectors import Layout
from pipeline.environments import Notice, environment_here
from pipeline.executor import Executor, Tally, Work
from pipeline.local import LocalRunner
from pipeline.params import parse_params
from pipeline.progress import Reporter
from stages.contract import Compute, Context, ImageTask

MakeTask = Callable[..., ImageTask]
GPU = "cuda NVIDIA H200"


class Toy(Compute):
    def __call__(self, task: ImageTask) -> Payload:
        return Payload({"x": np.arange(3)}, {"count": 3, "image": task.image.file_name}, "hdf5")


class OnDevice(Toy):
    on_device = True


def other(**changes: str) -> Environment:
    return Environment.from_json({**present().as_json(), **changes})


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks run on a GPU, whether or not there is one."""
    monkeypatch.setattr("stages.networks.forward.device_name", {"auto": GPU, "cuda": GPU, "cpu": "cpu"}.__getitem__)
    environment_here.cache_clear()


def put(store: Store, number: int, environment: Environment | None, stage: str = "toy") -> str:
    recipe = Recipe(stage=stage, version=1, params={"value": number}, inputs={})
    return store.put(recipe, Payload({"x": np.arange(3)}, {"count": 3, "image": f"{number}.png"}, "hdf5"), environment)


def notice(store: Store) -> tuple[Notice, io.StringIO]:
    said = io.StringIO()
    return Notice(store, Reporter("svm", said)), said


def test_objects_name_the_device_where_a_network_runs(tmp_path: Path, task: MakeTask) -> None:
    for compute, device in ((Toy(), "cpu"), (OnDevice(), GPU)):
        store = Store(tmp_path / type(compute).__name__)
        executor = Executor(store, LocalRunner(2), Reporter("toy", io.StringIO()), Tally(), "auto")
        (key,) = executor.compute([task(1, 1)], compute, unit="regions")
        assert store.describe("toy", key)["environment"] == present(device).as_json()


def test_work_that_is_sent_elsewhere_names_the_environment_there(
    tmp_path: Path, task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(Store(tmp_path), OnDevice(), "auto")
    work(task(1, 1))
    packed = cloudpickle.dumps(work)
    monkeypatch.setattr("stages.networks.forward.device_name", lambda setting: "cuda of the worker")
    environment_here.cache_clear()
    cloudpickle.loads(packed)(task(2, 2))
    devices = [Store(tmp_path).describe("toy", task(n, n).recipe.key)["environment"]["device"] for n in (1, 2)]
    assert devices == [GPU, "cuda of the worker"]


def test_one_line_tells_how_many_objects_are_of_other_environments_and_in_what_they_differ(tmp_path: Path) -> None:
    store = Store(tmp_path)
    keys = [put(store, n, other(opencv="4.10.0.84")) for n in range(3)]
    keys += [put(store, n, other(opencv="4.9.0.80", numpy="1.26")) for n in range(3, 5)]
    keys += [put(store, 5, present()), put(store, 6, other(device=GPU))]
    tell, said = notice(store)
    tell.met("toy", [])
    tell.met("toy", keys)
    tell.met("toy", keys)
    (line,) = said.getvalue().splitlines()
    here = present().as_json()
    assert line.startswith("svm: warning: 5 of 7 toy objects were computed in another environment: opencv ")
    assert f"opencv 4.10.0.84 and 4.9.0.80 (here {here['opencv']})" in line
    assert f"numpy 1.26 (here {here['numpy']})" in line
    assert "docs/store.md" in line and "device" not in line  # what an earlier stage ran on is not to be compared


@pytest.mark.parametrize(
    ("made_in", "here", "said"),
    [
        (None, None, False),
        (None, "cpu", False),
        ("cpu", "cpu", False),
        (GPU, GPU, False),
        (GPU, None, False),
        (GPU, "cpu", True),
        ("cpu", GPU, True),
    ],
)
def test_the_device_counts_where_both_are_known(
    tmp_path: Path, made_in: str | None, here: str | None, said: bool
) -> None:
    store, recipe = Store(tmp_path), Recipe("toy", 1, {}, {})
    payload = Payload({"x": np.arange(3)}, {"count": 3, "image": "a.png"}, "hdf5")
    store.take_in("toy", recipe.key, object_files(recipe, payload, present(made_in) if made_in else None))
    tell, written = notice(store)
    tell.met("toy", [recipe.key], present(here) if here else None)
    assert ("device" in written.getvalue()) == said
    assert len(written.getvalue().splitlines()) == said


def test_a_sample_is_called_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cache.listing._SAMPLE", 4)
    store = Store(tmp_path)
    keys = [put(store, n, other(opencv="4.10.0.84")) for n in range(9)]
    tell, said = notice(store)
    tell.met("toy", keys)
    assert "4 of the 4 toy objects looked at (9 in all) were computed in another environment" in said.getvalue()


def run(project: Path, tasks: list[ImageTask], compute: Compute, **store: str) -> list[str]:
    """Run a stage that reads the artifact manifest of the run before, where that was put in its place."""
    found: list[str] = []

    def stage_run(ctx: Context) -> None:
        if (project / "before.json").exists():
            ctx.artifact("toy")
        found.extend(ctx.compute_images(tasks, compute))
        ctx.publish("manifest", list(enumerate(found)), {})

    outputs = {"manifest": "artifacts/toy/manifest.json"}
    node = toy_node("toy", stage_run, inputs={"toy": "before.json"}, outputs=outputs)
    context = RunContext(node, Layout(project), parse_params({"store": store}), {"toy": node})
    stage_run(context)
    context.commit()
    return found


def test_a_run_that_finds_objects_of_another_environment_says_so_once(
    tmp_path: Path, task: MakeTask, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = [task(n, n) for n in range(3)]
    keys = run(tmp_path, tasks, Toy())
    shutil.copy(tmp_path / "artifacts/toy/manifest.json", tmp_path / "before.json")
    assert run(tmp_path, tasks, Toy()) == keys
    manifest = (tmp_path / "artifacts/toy/manifest.json").read_bytes()
    assert "another environment" not in capsys.readouterr().err
    upgraded = other(opencv="6.0")
    monkeypatch.setattr(environments, "present", lambda device="cpu": upgraded)
    environment_here.cache_clear()
    assert run(tmp_path, tasks, Toy()) == keys
    environment_here.cache_clear()
    said = [line for line in capsys.readouterr().err.splitlines() if "another environment" in line]
    assert len(said) == 1
    former = present().as_json()["opencv"]
    assert f"toy: warning: 3 of 3 toy objects were computed in another environment: opencv {former}" in said[0]
    assert "(here 6.0)" in said[0]
    assert (tmp_path / "artifacts/toy/manifest.json").read_bytes() == manifest


def test_environments_are_kept_apart_where_the_key_names_them(
    tmp_path: Path, task: MakeTask, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks, store = [task(n, n) for n in range(3)], Store(tmp_path / "artifacts")
    plain = run(tmp_path, tasks, Toy())
    assert plain == [one.recipe.key for one in tasks]
    assert run(tmp_path, tasks, Toy(), environment="record") == plain
    named = run(tmp_path, tasks, Toy(), environment="key")
    assert named == [one.recipe.in_environment(present().digest).key for one in tasks]
    on_gpu = run(tmp_path, tasks, OnDevice(), environment="key")
    assert on_gpu == [one.recipe.in_environment(present(GPU).digest).key for one in tasks]
    assert not {*plain} & {*named} and not {*named} & {*on_gpu}
    upgraded = other(opencv="6.0")
    monkeypatch.setattr(environments, "present", lambda device="cpu": upgraded)
    environment_here.cache_clear()
    capsys.readouterr()
    again = run(tmp_path, tasks, Toy(), environment="key")
    environment_here.cache_clear()
    assert not {*again} & {*plain, *named, *on_gpu}
    assert {store.describe("toy", key)["environment"]["opencv"] for key in again} == {"6.0"}
    assert "3 images computed, 0 found" in capsys.readouterr().err


def test_a_process_of_another_environment_than_the_keys_computes_nothing(tmp_path: Path, task: MakeTask) -> None:
    there = present("cuda of the client")
    named = [ImageTask(task(1, 1).image, task(1, 1).recipe.in_environment(there.digest))]
    executor = Executor(Store(tmp_path), LocalRunner(1), Reporter("toy", io.StringIO()), Tally(), "auto")
    with pytest.raises(
        ExecutionError, match=r"a process that computes images has python .*device cuda NVIDIA H200, and"
    ):
        executor.compute(named, OnDevice(), unit="regions")
    assert not Store(tmp_path).exists()
