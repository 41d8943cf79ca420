"""A grid keeps each cell's figures and leaves the user's files alone."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grid_projects import (
    BOTH,
    FILES,
    GRIDS,
    MORE,
    TWO_BY_TWO,
    as_dvc,
    called,
    kept,
    listed,
    ran,
    refused,
    run,
    scored,
    written,
)

from cache import Artifact, Payload, Recipe, Store
from cache.errors import ExecutionError, InterruptedRun, OutputError, ParamsError, StageError
from manifests import Dataset, ImageRecord, save_dataset
from manifests.select import DUPLICATES
from pipeline.cli import main
from pipeline.detectors import Layout
from pipeline.grids import former
from pipeline.grids.measured import read_done
from pipeline.grids.printing import Shown, printed
from pipeline.grids.reading import read_grid
from pipeline.grids.running import Asked, run_grid, set_up


@pytest.mark.parametrize("table", GRIDS)
def test_show_runs_nothing(table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    called(str(tmp_path), table, "--show")
    assert capsys.readouterr().out == f"{tmp_path / 'reports' / 'grids' / table}.json: nothing has been run\n"


def test_show_prints_what_was_kept(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = kept(project, "faster-table1", "rpn_300", {**BOTH, "proposals": 297.6})
    called(str(project), "faster-table1", "--show")
    assert "| rpn_300 | SS | RPN+ZF | 300 | 298 | 56.8 | 56.8 |" in capsys.readouterr().out
    called(str(project), "faster-table1", "--show", "--protocol", "voc2010", "--per-class")
    assert "| rpn_300 | SS | RPN+ZF | 300 | 298 | – | 50.0 | 56.8 |" in capsys.readouterr().out
    path.write_text(path.read_text().replace('"row"', '"more": 1, "row"'))
    (line,) = refused(capsys, str(project), "faster-table1", "--show")
    assert line.endswith("faster-table1.json: not what this version writes; move it away and run the grid again")


def test_a_grid_keeps_each_cell_and_puts_every_file_back(project: Path) -> None:
    """Table 1: dvc.yaml is the cell's while it runs; a grid that was stopped goes on with what it has."""
    before = {path: path.read_bytes() for path in project.rglob("*.yaml")}
    grid, rows, seen = GRIDS["faster-table1"], ["ss", "rpn_300", "rpn_1k"], []
    fast, stop = Layout(project, "fast"), True

    def experiment(name: str, settings: Sequence[str], target: str, *, force: bool = False) -> None:
        seen.append(name)
        assert target == "detectors/fast/dvc.yaml"
        of_rpn = "artifacts/detectors/faster/propose_1/manifest.json"
        assert (of_rpn in fast.dvc_file.read_text()) == ("rpn" in name)
        assert ("detectors/fast/params.yaml:regions.test=faster/propose_1" in settings) == ("rpn" in name)
        as_dvc(project, settings)
        if stop and name == "faster-table1-rpn_1k":
            raise RuntimeError("stopped")
        if "rpn" in name:
            costs = {"conv": 0.5, "rpn": 0.1, "proposals": 0.2}
            listed(Layout(project, "faster"), "propose_1", costs, name)
        else:
            listed(Layout(project), "proposals", {}, name)
        listed(fast, "roi_detect", {"conv": 0.25, "regions": 1.0}, name)
        scored(fast, len(seen) / 10)

    with pytest.raises(RuntimeError, match="stopped"):
        run(project, "faster-table1", rows, experiment)
    assert {path: path.read_bytes() for path in before} == before
    first, second = read_done(project, grid)
    assert (first.row, first.mean_ap, first.proposals) == ("ss", {"voc2007": 0.1, "voc2010": 0.25}, 298.5)
    assert first.costs["rcnn/proposals"].seconds == {"proposals": 0.5}  # 2 s for 4 images
    assert second.row == "rpn_300" and list(second.costs) == ["faster/propose_1", "fast/roi_detect"]
    assert "proposals.method=selective_search" in second.settings
    stop = False
    run(project, "faster-table1", rows[1:], experiment)  # rpn_300 is replaced, rpn_1k added
    assert {path: path.read_bytes() for path in before} == before
    assert [(one.row, one.mean_ap["voc2007"]) for one in read_done(project, grid)] == [
        ("ss", 0.1),
        ("rpn_300", 0.4),
        ("rpn_1k", 0.5),
    ]
    assert seen == [f"faster-table1-{row}" for row in (*rows, *rows[1:])]


def test_a_time_of_other_results_is_not_taken(project: Path) -> None:
    """A node that found its results in the store says what it took of others before; another cell may know."""
    grid, root = GRIDS["faster-table1"], Layout(project)

    def leave(of: str, *, computed: bool, s: float = 2) -> None:
        listed(root, "proposals", {}, of, computed=computed, s=s)
        listed(Layout(project, "fast"), "roi_detect", {"regions": 1.0}, of, computed=computed, s=s)
        scored(Layout(project, "fast"), 0.5)

    def experiment(name: str, settings: Sequence[str], target: str, *, force: bool = False) -> None:
        leave(name, computed=False)

    leave("long ago", computed=True, s=8)
    run(project, "faster-table1", ["ss", "eb"], experiment, MORE)
    ss, eb = read_done(project, grid)
    assert [dict(cost.seconds) for one in (ss, eb) for cost in one.costs.values()] == [{}] * 4
    run(project, "faster-table1", ["ss"], lambda name, settings, target, **_: leave(name, computed=True))
    run(project, "faster-table1", ["ss"], experiment)  # found in the store: the cell itself knows
    (known,) = [one for one in read_done(project, grid) if one.row == "ss"]
    assert known.costs["rcnn/proposals"].seconds == {"proposals": 0.5}
    assert known.costs["fast/roi_detect"].seconds == {"regions": 1.0}


def test_an_older_time_is_not_taken_of_detectors_as_they_are(project: Path) -> None:
    """Table 4 sets nothing; yet the last run that computed something may have made another list than is there."""
    root, finished = Layout(project), "2020-01-01T00:00:00Z"

    def leave(of: str, s: float) -> None:
        for node in ("proposals", "features", "detect"):
            listed(root, node, {}, of, s=s)
        scored(root, 0.5)

    leave("long ago", 8)
    times = json.loads((root.reports / "timings.json").read_text())
    (root.reports / "timings.json").write_text(
        json.dumps({node: {**one, "finished": finished} for node, one in times.items()})
    )
    for node in ("proposals", "features", "detect"):  # others have been found in the store since
        Artifact(node, 1, {"of": "now"}, {}, (), {"splits": {}}).write(root.artifacts / node / "manifest.json")
    run(project, "faster-table4", ["rcnn"], lambda name, settings, target, **_: None)
    (done,) = read_done(project, GRIDS["faster-table4"])
    assert len(done.costs) == 3 and not any(cost.seconds for cost in done.costs.values())
    table = printed(Shown(GRIDS["faster-table4"], [done], {}, "voc2010"), "md")
    assert table.endswith("| rcnn | 0 s | – | – | – | – |")  # it has no maps
    run(project, "faster-table4", ["rcnn"], lambda name, settings, target, **_: leave("now", 2))
    (done,) = read_done(project, GRIDS["faster-table4"])
    assert [dict(cost.seconds) for cost in done.costs.values()] == [
        {n: 0.5} for n in ("proposals", "features", "detect")
    ]


def test_an_edit_while_a_cell_runs_stays_and_stops_the_grid(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = project / "detectors/fast/params.yaml"
    before = {one: one.read_bytes() for one in project.rglob("*.yaml")}
    names = []

    def experiment(name: str, settings: Sequence[str], target: str, *, force: bool = False) -> None:
        names.append(name)
        as_dvc(project, settings)
        path.write_text(path.read_text() + "# mine\n")

    with pytest.raises(OutputError, match=r"^faster-table1-ss: its figures are not kept; see to the files named"):
        run(project, "faster-table1", ["ss", "rpn_300"], experiment)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{path}: was edited while an experiment of the grid ran, and stays as it is now; ")
    assert names == ["faster-table1-ss"] and path.read_text().endswith("# mine\n")
    assert path.with_name("params.yaml.before-grid").read_bytes() == before.pop(path)
    assert {one: one.read_bytes() for one in before} == before
    assert not read_done(project, GRIDS["faster-table1"])


def test_a_cell_is_planned_on_what_is_there_when_it_runs(project: Path) -> None:
    """The user edits a file that the first cell does not set: the second runs with the edit, which stays."""
    fast, faster = Layout(project, "fast"), project / "detectors/faster/params.yaml"

    def experiment(name: str, settings: Sequence[str], target: str, *, force: bool = False) -> None:
        as_dvc(project, settings)
        rpn = "rpn" in name
        assert faster.read_text().endswith("# mine\n") == rpn
        if not rpn:
            faster.write_text(faster.read_text() + "# mine\n")
        listed(Layout(project, "faster") if rpn else Layout(project), "propose_1" if rpn else "proposals", {}, name)
        listed(fast, "roi_detect", {"regions": 1.0}, name)
        scored(fast, 0.5)

    edited = faster.read_text() + "# mine\n"
    run(project, "faster-table1", ["ss", "rpn_300"], experiment)
    assert faster.read_text() == edited and not list(project.rglob("*.before-grid"))


def test_a_dvc_yaml_that_was_absent_is_absent_again(project: Path) -> None:
    dvc_file = project / "detectors/fast/dvc.yaml"
    dvc_file.unlink()

    def experiment(name: str, settings: Sequence[str], target: str, *, force: bool = False) -> None:
        assert dvc_file.exists()
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        run(project, "faster-table1", ["rpn_300"], experiment)
    assert not dvc_file.exists()


def test_parameters_behind_a_link_are_set_and_put_back_there(project: Path, tmp_path_factory: Any) -> None:
    path = project / "detectors/fast/params.yaml"
    target = tmp_path_factory.mktemp("elsewhere") / "fast.yaml"
    path.rename(target)
    path.symlink_to(target)
    before = target.read_bytes()

    def experiment(name: str, settings: Sequence[str], target_: str, *, force: bool = False) -> None:
        as_dvc(project, settings)
        assert path.is_symlink() and target.read_bytes() != before
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        run(project, "faster-table1", ["rpn_300"], experiment)
    assert path.is_symlink() and target.read_bytes() == before


@pytest.mark.parametrize("arguments", [["sppnet-table6", "--show"], ["faster-table1", "--rows", "rpn300"]])
def test_any_start_puts_back_what_a_killed_grid_changed(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    path = project / "params.yaml"
    before = path.read_bytes()
    former.keep_former(project, {"params.yaml": b"half: [a cell's"})  # not even parameters
    path.write_bytes(b"half: [a cell's")
    with pytest.MonkeyPatch.context() as patch:
        table, *others = arguments
        patch.setattr("sys.argv", ["rcnn", "-C", str(project), "grid", str(FILES[table]), *others])
        try:
            main()
        except SystemExit as end:
            assert end.code == 2 and "--show" not in arguments  # there is no such row: it got as far as that
    first, *others = capsys.readouterr().err.splitlines()
    assert first == f"{project}: a grid was killed in it; put back: params.yaml"
    assert path.read_bytes() == before and not former.folder_of(project).exists()
    assert len(others) == ("--show" not in arguments)


@pytest.mark.parametrize(
    ("error", "code"), [(ExecutionError("dvc failed"), 2), (StageError("no"), 2), (InterruptedRun("stopped"), 130)]
)
def test_what_ends_a_grid_is_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    before = {path: path.read_bytes() for path in project.rglob("*.yaml")}

    def experiment(name: str, settings: Sequence[str], target: str, *, force: bool = False) -> None:
        as_dvc(project, settings)
        raise error

    monkeypatch.setattr("pipeline.grids.running.dvc_experiments", lambda project, stop, lock: experiment)
    with pytest.raises(SystemExit) as end:
        called(str(project), "faster-table1", "--rows", "rpn_300")
    assert end.value.code == code and capsys.readouterr().err == f"rcnn: {error}\n"
    assert {path: path.read_bytes() for path in before} == before and not former.folder_of(project).exists()


def test_show_has_the_cells_that_are_asked_for(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran(project, read_grid(written(project, TWO_BY_TWO)))
    capsys.readouterr()

    def shown(*options: str) -> list[str]:
        file = str(project / "two.yaml")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["rcnn", "-C", str(project), "grid", file, "--show", "--format", "csv", *options])
            with contextlib.suppress(SystemExit):
                main()
        said = capsys.readouterr()
        return [line.partition(",dev")[0] for line in (said.out or said.err).splitlines()]

    assert [line.split(",")[:2] for line in shown()[1:]] == [["low", "a"], ["high", "a"], ["low", "b"], ["high", "b"]]
    assert [line.split(",")[:2] for line in shown("--rows", "high")[1:]] == [["high", "a"], ["high", "b"]]
    assert [line.split(",")[:2] for line in shown("--rows", "low", "--columns", "b")[1:]] == [["low", "b"]]
    assert shown("--rows", "hgih") == ["rcnn: --rows hgih: there is none (did you mean 'high'?); rows: low, high"]
    for option in (["--set", "all:svm.margin=-1"], ["--detector", "a=b"], ["--again"]):
        assert "--set, --detector and --again are for a run" in shown(*option)[-1]


def test_a_second_grid_is_one_line_and_show_leaves_the_first_alone(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.grids.running._PATIENCE_S", 0)
    with former.alone(project):
        former.keep_former(project, {"params.yaml": b"a cell's"})
        (line,) = refused(capsys, str(project), "faster-table1", "--rows", "ss")
        assert line.startswith(f"rcnn: {project}: another grid, or an experiment of one, is running in it; ")
        called(str(project), "faster-table1", "--show")
        assert "nothing has been run" in capsys.readouterr().out and former.folder_of(project).exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean_ap": {"voc2007": 0.5}},
        {"mean_ap": {"voc2007": 0.5, "voc2010": "0.5"}},
        {"mean_ap": {"voc2007": 0.5, "voc2010": float("nan")}},
        {"mean_ap": {}},
        {"ap": {}},
        {"recall": {"0.50": 0.5}},
        {"row": 3},
        {"seed": "3"},
        {"proposals": "many"},
        {"origin": {}},
        {"costs": {"fast/roi_detect": {"of": "a", "seconds": {"regions": None}}}},
    ],
)
def test_results_that_are_not_whole_are_told_before_anything_runs(
    project: Path, capsys: pytest.CaptureFixture[str], wrong: dict[str, Any]
) -> None:
    grid = GRIDS["faster-table1"]
    kept(project, "faster-table1", "ss", BOTH)
    assert read_done(project, grid)[0].row == "ss"
    kept(project, "faster-table1", "ss", BOTH | wrong)
    said = "faster-table1.json: not what this version writes; move it away and run the grid again"

    def experiment(name: str, settings: Sequence[str], target: str, *, force: bool = False) -> None:
        pytest.fail("an experiment ran")

    with pytest.raises(ParamsError, match=said):
        run(project, "faster-table1", ["ss"], experiment)
    (line,) = refused(capsys, str(project), "faster-table1", "--show")
    assert line.endswith(said)


def test_a_segmentations_figures_are_its_reports(project: Path) -> None:
    """The mean over classes that there are, by row and column; each class's with --per-class."""
    grid = replace(GRIDS["segmentation-table5"], seeds=())

    def experiment(name: str, settings: Sequence[str], target: str, *, force: bool = False) -> None:
        assert (name, target) == ("segmentation-table5-fc6-fg", "segmentation/dvc.yaml:segment_evaluate")
        assert list(settings) == ["region_features.layer=fc6", "region_features.features=fg"]
        listed(Layout(project), "proposals", {}, name)
        iou = {"background": 0.75, "cat": 0.25, "dog": None}
        (project / "reports/segmentation.json").write_text(json.dumps({"mean_iou": 0.5, "iou": iou, "absent": ["dog"]}))

    run_grid(project, grid, set_up(project, grid, Asked(["fc6"], ["fg"])), experiment)
    done = read_done(project, grid)
    assert [(one.mean_iou, one.iou) for one in done] == [(0.5, {"background": 0.75, "cat": 0.25, "dog": None})]
    assert not done[0].mean_ap and not done[0].recall and done[0].proposals == 298.5
    table = printed(Shown(grid, done, {}, "voc2010"), "md").splitlines()
    assert table[0] == "|  | fg R-CNN |" and table[2] == "| fc6 | 50.0 (43.7) |"
    each = printed(Shown(grid, done, {}, "voc2010", per_class=True), "md").splitlines()
    assert each[0] == "|  |  | background | cat | dog | mean IoU (%) | the paper |"
    assert each[2] == "| fc6 | fg R-CNN | 75.0 | 25.0 | – | 50.0 | 43.7 |"
    path = project / "reports/grids/segmentation-table5.json"
    path.write_text(
        path.read_text().replace('"iou": {', '"recall": {"0.50": 1.0}, "iou": {').replace('"recall": {},', "")
    )
    with pytest.raises(ParamsError, match="not what this version writes"):
        read_done(project, grid)


def test_recall_of_proposals_is_the_papers_figure(project: Path) -> None:
    """Two objects, one covered with IoU 0.8 by the second best proposal, the other not at all."""
    grid = GRIDS["faster-figure2"]
    objects = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    record = ImageRecord(1, "1.png", 60, 60, "1" * 64, "test", objects, np.zeros(2, np.int64))
    twin = replace(record, id=2, file_name="2.png", sha256="2" * 64, splits=("test", DUPLICATES))  # counts nowhere
    save_dataset(Dataset("squares", ("square",), (record, twin)), project / "artifacts/manifest/manifest.json")
    store = Store(project / "artifacts")

    def experiment(name: str, settings: Sequence[str], target: str, *, force: bool = False) -> None:
        assert (name, target) == ("faster-figure2-ss-300", "proposals")
        assert list(settings) == ["proposals.method=selective_search", "proposals.max_proposals=300"]
        boxes = np.array([[50, 0, 60, 10], [0, 0, 10, 8]], np.float32)
        recipe = Recipe("proposals", 1, {}, {"image": "1" * 64})
        store.put(recipe, Payload({"boxes": boxes}, {"count": 2}, "hdf5"))
        summary = {"splits": {"test": {"mean_boxes": 2.0}}}
        none = Recipe("proposals", 1, {}, {"image": "2" * 64})
        store.put(none, Payload({"boxes": boxes[:0]}, {"count": 0}, "hdf5"))
        made = Artifact("proposals", 1, {}, {}, ((1, recipe.key), (2, none.key)), summary)
        (project / "artifacts/proposals").mkdir(parents=True)
        made.write(project / "artifacts/proposals/manifest.json")

    run(project, "faster-figure2", ["ss"], experiment, column="300")
    (done,) = read_done(project, grid)
    assert done.recall == {f"{iou / 100:.2f}": 0.5 if iou <= 80 else 0.0 for iou in range(50, 101, 5)}
    assert not done.mean_ap and not done.costs
    table = printed(Shown(grid, [done], {}, "voc2010"), "md").splitlines()
    assert table[0].startswith("|  |  | proposals per image | recall (%) at IoU 0.50 | recall (%) at IoU 0.55 |")
    assert table[2] == "| SS | 300 | 2 |" + " 50.0 |" * 7 + " 0.0 |" * 4
