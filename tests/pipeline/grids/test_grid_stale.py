"""A cell that is fresh is not run again, and one that other parameters, code or data would change is told."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from forked import in_fork
from grid_projects import TWO_BY_TWO, as_dvc, listed, plan, ran, scored, written

from cache.errors import ParamsError
from pipeline.detectors import Layout
from pipeline.grids.declared import CellName
from pipeline.grids.experiments import Experiment
from pipeline.grids.measured import read_done
from pipeline.grids.printing import Shown, printed
from pipeline.grids.reading import read_grid
from pipeline.grids.running import Asked, run_all, run_grid, set_up, stale


def test_a_cell_on_files_that_dvc_does_not_watch_runs_every_stage(project: Path) -> None:
    """The first on such a file, and each after another file, or after other parameters of the group that names it."""
    forced = []

    def experiment(name: str, settings: Sequence[str], target: str, *, force: bool = False) -> None:
        forced.append(force)
        for node in ("proposals", "features", "detect"):
            listed(Layout(project), node, {}, name)
        scored(Layout(project), 0.5)

    text = "seeds: [3, 4]\nrows:\n  low: {set: {svm.margin: -1.0}}\n  high: {set: {svm.margin: -1.1}}\n"
    grid = read_grid(written(project, text))
    run_grid(project, grid, set_up(project, grid, Asked()), experiment)
    assert forced == [False] * 4
    (project / "twins").mkdir()
    (project / "twins/drop").write_text("")  # a name without an extension
    more = ["all:manifest.drop_duplicates=twins/drop"]
    forced.clear()
    run_grid(project, grid, set_up(project, grid, Asked(more=more)), experiment)
    assert forced == [True, False, True, False]  # seed by seed
    assert all("twins/drop" in one.origin.files for one in read_done(project, grid))
    forced.clear()
    (project / "twins/drop").write_text("# another\n")
    assert len(stale(project, grid, read_done(project, grid))) == 4
    run_grid(project, grid, set_up(project, grid, Asked(more=more)), experiment)
    assert forced == [True, False, True, False]
    assert not stale(project, grid, read_done(project, grid))


def test_a_cell_that_is_fresh_is_not_run_again(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A grid that was killed in its third cell goes on there; with other parameters all that they matter to is run."""
    seen: list[str] = []
    killed = True

    def experiment(name: str, settings: Sequence[str], target: str, *, force: bool = False) -> None:
        seen.append(name)
        if killed and len(seen) == 3:
            raise KeyboardInterrupt
        for node in ("proposals", "features", "detect"):
            listed(Layout(project), node, {}, name)
        scored(Layout(project), 0.5)

    grid = read_grid(written(project, TWO_BY_TWO))
    everything = Asked()
    with pytest.raises(KeyboardInterrupt):
        run_grid(project, grid, set_up(project, grid, everything), experiment)
    killed = False
    run_grid(project, grid, set_up(project, grid, everything), experiment)
    assert seen == ["two-low-a", "two-high-a", "two-low-b", "two-low-b", "two-high-b"]
    assert capsys.readouterr().err.splitlines() == [f"two-{row}-a: has been run" for row in ("low", "high")]
    assert not stale(project, grid, read_done(project, grid))
    run_grid(project, grid, set_up(project, grid, Asked(more=["high:bbox.min_iou=0.7"])), experiment)
    assert seen[5:] == ["two-high-a", "two-high-b"]  # --set counts as said when what is stale is looked for
    assert not stale(project, grid, read_done(project, grid))
    run_grid(project, grid, set_up(project, grid, Asked(rows=["low"], columns=["a"], again=True)), experiment)
    assert seen[7:] == ["two-low-a"]


def test_a_grid_that_is_killed_in_its_third_cell_goes_on_there(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is gone while the cell's parameters are in the files: the next one puts them back."""
    before, grid = (project / "params.yaml").read_bytes(), read_grid(written(project, TWO_BY_TWO))
    begun = project / "begun"

    def experiments(*_: object) -> Experiment:
        def experiment(name: str, settings: Sequence[str], target: str, *, force: bool = False) -> None:
            with begun.open("a") as file:
                file.write(f"{name}\n")
            as_dvc(project, settings)
            if len(begun.read_text().split()) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            for node in ("proposals", "features", "detect"):
                listed(Layout(project), node, {}, name)
            scored(Layout(project), 0.5)

        return experiment

    monkeypatch.setattr("pipeline.grids.running.dvc_experiments", experiments)

    def work() -> int:
        run_all(project, grid, Asked())
        return 0

    assert in_fork(work)[0] == -signal.SIGKILL
    assert (project / "params.yaml").read_bytes() != before
    run_all(project, grid, Asked())
    assert begun.read_text().split() == ["two-low-a", "two-high-a", "two-low-b", "two-low-b", "two-high-b"]
    assert (project / "params.yaml").read_bytes() == before and len(read_done(project, grid)) == 4


def test_what_matters_to_a_cell_makes_it_stale_and_nothing_else(project: Path) -> None:
    grid, path = read_grid(written(project, TWO_BY_TWO)), project / "params.yaml"
    ran(project, grid)
    before = path.read_text()
    path.write_text(before.replace("max_examples: 180", "max_examples: 9").replace("workers: 0", "workers: 1"))
    assert not stale(project, grid, read_done(project, grid))  # the page's, and how the work is spread
    path.write_text(before.replace("margin: -1.0001", "margin: -1.1").replace("C: 0.001", "C: 5"))
    found = stale(project, grid, read_done(project, grid))
    assert list(found.values()) == [["svm.margin was -1.0001, is -1.1"]] * 4  # svm.C is the grid's own
    path.write_text(before)
    grid = read_grid(written(project, TWO_BY_TWO.replace("svm.C: 0.01}", "svm.C: 0.1}")))
    found = stale(project, grid, read_done(project, grid))
    assert found == {CellName("high", column): ["svm.C was 0.01, is 0.1"] for column in "ab"}
    done = read_done(project, grid)
    less = {name: value for name, value in done[0].origin.parameters.items() if name != "features.padding"}
    older = done[0].model_copy(update={"origin": done[0].origin.model_copy(update={"parameters": less})})
    assert not stale(project, read_grid(written(project, TWO_BY_TWO)), [older])  # of before there was the parameter
    path.write_text(before.replace("padding: mean", "padding: replicate"))
    found = stale(project, read_grid(written(project, TWO_BY_TWO)), [older])
    assert found == {done[0].cell: ["features.padding was mean, is replicate"]}
    path.write_text(before.replace("svm:", "svn:"))
    found = stale(project, grid, read_done(project, grid))
    assert len(found) == 4 and all(why[0].startswith("it cannot be run now: ") for why in found.values())


def test_another_version_and_other_data_make_a_cell_stale(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("dataset: scenes ", "dataset: birds ", 1))
    (project / "artifacts/datasets/birds").mkdir(parents=True)
    registered, edges = project / "artifacts/datasets/birds/manifest.json", project / "edges.h5"
    registered.write_text("{}")
    edges.write_text("boxes")
    grid = read_grid(written(project, TWO_BY_TWO))
    ran(project, grid, ["all:proposals.method=file", "all:proposals.file.path=edges.h5"])
    assert not stale(project, grid, read_done(project, grid))
    registered.write_text("{ }")
    assert set(map(tuple, stale(project, grid, read_done(project, grid)).values())) == {
        ("artifacts/datasets/birds/manifest.json is another",)
    }
    registered.write_text("{}")
    edges.write_text("other boxes")
    assert set(map(tuple, stale(project, grid, read_done(project, grid)).values())) == {("edges.h5 is another",)}
    edges.write_text("boxes")
    done = read_done(project, grid)
    former_version = {**done[0].origin.versions, "svm": 0}
    older = done[0].model_copy(update={"origin": done[0].origin.model_copy(update={"versions": former_version})})
    assert stale(project, grid, [older, *done[1:]]) == {done[0].cell: ["stage svm is of another version"]}


def test_another_detectors_parameters_matter_where_its_proposals_are_taken(project: Path) -> None:
    origin = plan(project, "faster-table1", "rpn_300").origin
    assert origin.parameters["faster/propose.after_nms"] == 300 and origin.parameters["fast/fast.bg_iou"] == 0.5
    assert "faster/fast.bg_iou" not in origin.parameters and "svm.C" not in origin.parameters
    assert {"fast/fast", "fast/roi_detect", "faster/rpn_1", "manifest", "proposals"} <= origin.versions.keys()
    assert "faster/propose.after_nms" not in plan(project, "faster-table1", "ss").origin.parameters


def test_each_seed_is_a_run_of_its_own(project: Path) -> None:
    grid = read_grid(written(project, f"seeds: [7, 8]\n{TWO_BY_TWO}"))
    seen = []

    def experiment(name: str, settings: Sequence[str], target: str, *, force: bool = False) -> None:
        seen.append((name, settings[-1]))
        for node in ("proposals", "features", "detect"):
            listed(Layout(project), node, {}, name)
        scored(Layout(project), 0.5 if name.endswith("7") else 0.6)

    run_grid(project, grid, set_up(project, grid, Asked(rows=["low"])), experiment)
    assert seen == [(f"two-low-{column}-{seed}", f"seed={seed}") for seed in (7, 8) for column in "ab"]
    text = printed(Shown(grid, read_done(project, grid), {}, "voc2007"), "md")
    assert "| low | 55.0 ± 7.1 | 55.0 ± 7.1 |" in text
    with pytest.raises(ParamsError, match="has seeds of its own; choose of them by --seeds"):
        set_up(project, grid, Asked(more=["all:seed=1"]))
    with pytest.raises(ParamsError, match="--seeds 9: there is none; seeds: 7, 8"):
        set_up(project, grid, Asked(seeds=[9]))
