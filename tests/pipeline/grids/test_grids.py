"""The grids of the papers' tables: every cell is valid parameters; a grid keeps each cell and leaves files alone."""

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides

from benchmarks import former
from benchmarks.experiments import Experiment
from benchmarks.grids import main, run_grid
from benchmarks.measured import read_done
from benchmarks.plans import More, Plan, planned
from benchmarks.tables import GRIDS
from cache import Artifact, Payload, Recipe, Store
from cache.errors import ExecutionError, InterruptedRun, OutputError, ParamsError, StageError
from manifests import Dataset, ImageRecord, save_dataset
from pipeline import timings
from pipeline.detectors import Layout
from pipeline.dvc_files import write_all
from pipeline.params import load_params
from stages.graph import ROOT

HERE = Path(__file__).parents[2]
# The project's detectors in the roles that the grids name.
ROLES = {"fast": "fast", "faster": "faster", "vgg": "faster", "fast_vgg": "fast"}
MORE: More = [
    ("eb", "proposals.file.path=edges.h5"),
    ("0712", "manifest.train=[trainval07,trainval12]"),
]


@pytest.fixture(scope="module")
def roles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a detector in every role, and nothing run. Not to be changed: take ``project``."""
    folder = tmp_path_factory.mktemp("grids")
    (folder / "params.yaml").write_bytes((HERE / "params.yaml").read_bytes())
    for role, kind in ROLES.items():
        (folder / "detectors" / role).mkdir(parents=True)
        shipped = HERE / "detectors" / kind / "params.yaml"
        (folder / "detectors" / role / "params.yaml").write_bytes(shipped.read_bytes())
    write_all(folder)
    return folder


@pytest.fixture
def project(roles: Path, tmp_path: Path) -> Path:
    for path in roles.rglob("*.yaml"):
        copy = tmp_path / path.relative_to(roles)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return tmp_path


def called(*arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["grids", *arguments])
        main()


def plan(project: Path, table: str, row: str, column: str = "", more: More = MORE) -> Plan:
    grid = GRIDS[table]
    return planned(project, grid, (row, column or next(iter(grid.columns))), [row], more, {})


def run(
    project: Path, table: str, rows: Sequence[str], experiment: Experiment, more: More = (), column: str = ""
) -> None:
    """Run rows of one column of a grid as the program does."""
    grid = GRIDS[table]
    places = [(row, column or next(iter(grid.columns))) for row in rows]
    run_grid(project, grid, places, lambda place: planned(project, grid, place, rows, more, {}), experiment)


def as_dvc(project: Path, settings: Sequence[str]) -> None:
    """Set parameters as ``dvc exp run`` does before it runs anything."""
    for file, overrides in to_path_overrides(settings).items():
        apply_overrides(project / file, overrides)


def set_by_hand(project: Path, made: Plan) -> dict[str, Any]:
    """What the settings make of each params.yaml, as ``dvc exp run -S`` sets them; AssertionError for unknown ones."""
    documents: dict[str, Any] = {}
    for setting in made.settings:
        written = setting.for_dvc if "params.yaml:" in setting.for_dvc else f"params.yaml:{setting.for_dvc}"
        file, _, assignment = written.partition(":")
        name, _, value = assignment.partition("=")
        document = documents.setdefault(file, yaml.safe_load((project / file).read_text(encoding="utf-8")))
        *groups, last = name.split(".")
        group: Any = document
        for one in groups:
            group = group[one]
        assert last in group, setting
        group[last] = yaml.safe_load(value)
    return documents


def cells() -> Iterator[tuple[str, str, str]]:
    for name, grid in GRIDS.items():
        for row, column in itertools.product(grid.rows or ["rcnn", "fast", "vgg"], grid.columns):
            yield name, row, column


@pytest.mark.parametrize(("table", "row", "column"), list(cells()))
def test_every_cell_is_valid_parameters(roles: Path, tmp_path: Path, table: str, row: str, column: str) -> None:
    made = plan(roles, table, row, column)
    documents = set_by_hand(roles, made)
    for path in roles.rglob("params.yaml"):
        copy = tmp_path / path.relative_to(roles)
        copy.parent.mkdir(parents=True, exist_ok=True)
        document = documents.get(path.relative_to(roles).as_posix())
        copy.write_text(yaml.safe_dump(document) if document else path.read_text(encoding="utf-8"))
    load_params(Layout(tmp_path))  # as the pipeline does
    write_all(tmp_path)  # the others', too; and this is what it compares their files with when it runs
    for role in ROLES:
        file = f"detectors/{role}/dvc.yaml"
        text = (tmp_path / file).read_text(encoding="utf-8")
        assert made.files.get(file, (roles / file).read_text(encoding="utf-8")) == text


def test_all_fourteen_rows_of_table_1_are_the_papers(roles: Path) -> None:
    """Trained on, tested on, how many, NMS, ranked by, regressed: the paper's words, written out once more by hand."""
    given, zf, vgg = "proposals", "faster/propose_1", "vgg/propose_1"
    rows: dict[str, tuple[Any, ...]] = {
        "ss": (given, given, None),
        "eb": (given, given, None),
        "shared": (None, None, (300, 0.7, "score", True)),
        "unshared": (zf, zf, (300, 0.7, "score", True)),
        "rpn_100": (given, zf, (100, 0.7, "score", True)),
        "rpn_300": (given, zf, (300, 0.7, "score", True)),
        "rpn_1k": (given, zf, (1000, 0.7, "score", True)),
        "no_nms_6k": (given, zf, (6000, None, "score", True)),
        "no_cls_100": (given, zf, (100, None, "random", True)),
        "no_cls_300": (given, zf, (300, None, "random", True)),
        "no_cls_1k": (given, zf, (1000, None, "random", True)),
        "no_reg_300": (given, zf, (300, 0.7, "score", False)),
        "no_reg_1k": (given, zf, (1000, 0.7, "score", False)),
        "vgg_300": (given, vgg, (300, 0.7, "score", True)),
    }
    assert list(rows) == list(GRIDS["faster1"].rows)
    for row, (train, test, proposed) in rows.items():
        made = plan(roles, "faster1", row)
        documents = set_by_hand(roles, made)
        assert made.detector == ("faster" if row == "shared" else "fast") and made.scored
        assert made.target == f"detectors/{made.detector}/dvc.yaml"
        if train is not None:
            assert documents["detectors/fast/params.yaml"]["regions"] == {"train": train, "test": test}, row
        of = "vgg" if row == "vgg_300" else "faster"
        propose = documents.get(f"detectors/{of}/params.yaml", {}).get("propose")
        if proposed is None:
            assert propose is None, row
        else:
            assert tuple(propose[name] for name in ("after_nms", "nms_iou", "rank", "regress")) == proposed, row
            assert (propose["train_after_nms"], propose["before_nms"]) == (2000, 6000)
        if given in (train, test):
            own = documents["params.yaml"]["proposals"]
            assert (own["method"], own["max_proposals"]) == ("file" if row == "eb" else "selective_search", 2000)
    assert set_by_hand(roles, plan(roles, "faster1", "eb"))["params.yaml"]["proposals"]["file"]["path"] == "edges.h5"


def test_what_is_measured_of_whom(roles: Path) -> None:
    """The nodes that a test image passes, whose times are read; and the proposals whose number is."""
    made = plan(roles, "faster1", "vgg_300")
    assert made.nodes == [("vgg", "propose_1"), ("fast", "roi_detect")]
    assert made.proposals == "artifacts/detectors/vgg/propose_1/manifest.json"
    assert list(made.files) == ["detectors/fast/dvc.yaml"]
    shared = plan(roles, "faster1", "shared")
    assert shared.nodes == [("faster", "maps"), ("faster", "propose_2"), ("faster", "roi_detect")]
    assert shared.proposals == "artifacts/detectors/faster/propose_2/manifest.json" and not shared.files
    ss = plan(roles, "faster1", "ss")
    assert ss.nodes == [(ROOT, "proposals"), ("fast", "roi_detect")] and not ss.files
    given = plan(roles, "figure2", "ss", "300")
    assert (given.target, given.scored, given.proposals) == ("proposals", False, "artifacts/proposals/manifest.json")
    rpn = plan(roles, "figure2", "rpn_vgg", "1k")
    assert rpn.target == "detectors/vgg/dvc.yaml:propose_1"
    assert rpn.proposals == "artifacts/detectors/vgg/propose_1/manifest.json"
    assert plan(roles, "faster4", "rcnn").nodes == [(ROOT, "proposals"), (ROOT, "features"), (ROOT, "detect")]


def test_dense_windows_are_all_anchors(roles: Path) -> None:
    made = set_by_hand(roles, plan(roles, "faster5", "dense_1"))
    assert made["detectors/fast/params.yaml"]["regions"] == dict.fromkeys(("train", "test"), "faster/propose_1")
    propose = made["detectors/faster/params.yaml"]["propose"]
    limits = ("before_nms", "train_before_nms", "nms_iou")
    assert [propose[name] for name in limits] == [None] * 3 and not propose["regress"]
    anchors = 63 * 38 * 9  # of a 1000 x 600 px map of stride 16: "20k"
    assert min(propose["after_nms"], propose["train_after_nms"]) > anchors


def test_a_detector_in_a_role(project: Path) -> None:
    (project / "detectors/faster").rename(project / "detectors/zf")
    grid = GRIDS["faster1"]
    made = planned(project, grid, ("rpn_300", "map"), ["rpn_300"], [], {"faster": "zf"})
    assert any(setting.for_dvc == "detectors/fast/params.yaml:regions.test=zf/propose_1" for setting in made.settings)
    assert any(setting.for_dvc == "detectors/zf/params.yaml:propose.after_nms=300" for setting in made.settings)
    assert "artifacts/detectors/zf/propose_1/manifest.json" in made.files["detectors/fast/dvc.yaml"]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    with pytest.raises(SystemExit, match="2"):
        called(*arguments)
    return capsys.readouterr().err.splitlines()


WRONG = [
    (["faster1", "--rows", "rpn300"], "--rows rpn300: there is none (did you mean 'rpn_300'?); rows: ss, eb, shared, "),
    (["figure2", "--columns", "3k"], "--columns 3k: there is none"),
    (
        ["faster1", "--rows", "eb"],
        "params.yaml: row eb: EdgeBoxes are another program's boxes (docs/proposal-file.md): "
        "--set eb:proposals.file.path=VALUE, or leave the row out (--rows)",
    ),
    (["faster2", "--rows", "ss_0712"], "row ss_0712: 07+12 is a list of your splits"),
    (["faster1", "--rows", "ss", "--set", "a=1"], "--set 'a=1' is not WHERE:NAME=VALUE with WHERE of all, eb, map, "),
    (["table6", "--set", "spp:a"], "--set 'spp:a' is not WHERE:NAME=VALUE with WHERE of all, fc6, ft, "),
    (["faster1", "--rows", "ss", "--set", "ss:svm.CC=1"], "params.yaml: has no svm.CC to be set"),
    (["faster1", "--rows", "ss", "--set", "ss:fast/fast.lr=-1"], "detectors/fast/params.yaml: fast.lr = -1: "),
    (["faster1", "--rows", "ss", "--set", "ss:slow/fast.lr=1"], "slow/fast.lr=1: there is no role 'slow'"),
    (["faster1", "--rows", "ss", "--set", "ss:seed=]"], "seed=]: the value is not YAML; mend --set"),
    (["faster1", "--detector", "zf=faster"], "--detector 'zf=faster' is not ROLE=NAME with ROLE of fast, faster, vgg"),
    (
        ["faster1", "--rows", "ss", "--detector", "fast=slow"],
        "has no detector 'slow'; `rcnn detector add slow --kind f",
    ),
    (["faster1", "--rows", "ss", "--detector", "fast=vgg"], "vgg is of kind faster; faster1 takes a fast of kind fast"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG)
def test_what_is_wrong_is_one_line_before_anything_runs(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    (line,) = refused(capsys, str(project), *arguments)
    assert said in line
    assert before == {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}


def test_all_cells_are_checked_before_the_first_runs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "detectors/vgg/params.yaml").unlink()
    lines = refused(capsys, str(project), "faster1", "--detector", "fast=fast_vgg")
    assert len(lines) == 2  # of rows eb and vgg_300
    assert "EdgeBoxes" in lines[0] and "has no detector 'vgg'" in lines[1]


@pytest.mark.parametrize("table", GRIDS)
def test_a_folder_that_is_no_project_is_one_line(
    table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, str(tmp_path), table) == [
        f"{tmp_path / 'params.yaml'}: not found; run from the project's folder, where dvc.yaml is"
    ]


@pytest.mark.parametrize("table", GRIDS)
def test_show_runs_nothing(table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    called(str(tmp_path), table, "--show")
    assert capsys.readouterr().out == f"{tmp_path / 'reports' / table}.json: nothing has been run\n"


def test_show_prints_what_was_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = {"row": "rpn_300", "column": "map", "settings": [], "mean_ap": {"voc2007": 0.568, "voc2010": 0.5}}
    (tmp_path / "reports").mkdir()
    rest = {"costs": {}, "proposals": 297.6, "recall": {}}
    (tmp_path / "reports/faster1.json").write_text(json.dumps([{**done, **rest}]))
    called(str(tmp_path), "faster1", "--show", "--protocol", "voc2007")
    assert "| rpn_300 | SS | RPN+ZF | 300 | 298 | 56.8 | 56.8 |" in capsys.readouterr().out
    (tmp_path / "reports/faster1.json").write_text(json.dumps([done | {"more": 1}]))
    (line,) = refused(capsys, str(tmp_path), "faster1", "--show")
    assert line.endswith("faster1.json: not what this version writes; move it away and run the grid again")


def listed(layout: Layout, node: str, costs: dict[str, float], of: str, *, computed: bool = True, s: float = 2) -> None:
    """Leave what a run of a node leaves: its list, made with the parameters ``of``, and its times; four images."""
    made = Artifact(node, 1, {"of": of}, {}, (), {"splits": {"test": {"mean_boxes": 298.5}}})
    (layout.artifacts / node).mkdir(parents=True, exist_ok=True)
    made.write(layout.artifacts / node / "manifest.json")
    counts = {"computed": 4 * computed, "reused": 4 * (not computed)}
    timings.record(layout, node, s, counts, {made.digest: costs} if computed and costs else {})


def scored(layout: Layout, voc2007: float) -> None:
    layout.reports.mkdir(parents=True, exist_ok=True)
    scores = {"voc2007": {"mAP": voc2007}, "voc2010": {"mAP": 0.25}}
    (layout.reports / "metrics.json").write_text(json.dumps(scores))


def test_a_grid_keeps_each_cell_and_puts_every_file_back(project: Path) -> None:
    """Table 1: dvc.yaml is the cell's while it runs; a grid that was stopped goes on with what it has."""
    before = {path: path.read_bytes() for path in project.rglob("*.yaml")}
    grid, rows, seen = GRIDS["faster1"], ["ss", "rpn_300", "rpn_1k"], []
    fast, stop = Layout(project, "fast"), True

    def experiment(name: str, settings: Sequence[str], target: str) -> None:
        seen.append(name)
        assert target == "detectors/fast/dvc.yaml"
        of_rpn = "artifacts/detectors/faster/propose_1/manifest.json"
        assert (of_rpn in fast.dvc_file.read_text()) == ("rpn" in name)
        assert ("detectors/fast/params.yaml:regions.test=faster/propose_1" in settings) == ("rpn" in name)
        as_dvc(project, settings)
        if stop and name == "faster1-rpn_1k":
            raise RuntimeError("stopped")
        if "rpn" in name:
            costs = {"conv": 0.5, "rpn": 0.1, "proposals": 0.2}
            listed(Layout(project, "faster"), "propose_1", costs, name)
        else:
            listed(Layout(project), "proposals", {}, name)
        listed(fast, "roi_detect", {"conv": 0.25, "regions": 1.0}, name)
        scored(fast, len(seen) / 10)

    with pytest.raises(RuntimeError, match="stopped"):
        run(project, "faster1", rows, experiment)
    assert {path: path.read_bytes() for path in before} == before
    first, second = read_done(project, grid)
    assert (first.row, first.mean_ap, first.proposals) == ("ss", {"voc2007": 0.1, "voc2010": 0.25}, 298.5)
    assert first.costs["rcnn/proposals"].seconds == {"proposals": 0.5}  # 2 s for 4 images
    assert second.row == "rpn_300" and list(second.costs) == ["faster/propose_1", "fast/roi_detect"]
    assert "proposals.method=selective_search" in second.settings
    stop = False
    run(project, "faster1", rows[1:], experiment)  # rpn_300 is replaced, rpn_1k added
    assert {path: path.read_bytes() for path in before} == before
    assert [(one.row, one.mean_ap["voc2007"]) for one in read_done(project, grid)] == [
        ("ss", 0.1),
        ("rpn_300", 0.4),
        ("rpn_1k", 0.5),
    ]
    assert seen == [f"faster1-{row}" for row in (*rows, *rows[1:])]


def test_a_time_of_other_results_is_not_taken(project: Path) -> None:
    """A node that found its results in the store says what it took of others before; another cell may know."""
    grid, root = GRIDS["faster1"], Layout(project)

    def leave(of: str, *, computed: bool, s: float = 2) -> None:
        listed(root, "proposals", {}, of, computed=computed, s=s)
        listed(Layout(project, "fast"), "roi_detect", {"regions": 1.0}, of, computed=computed, s=s)
        scored(Layout(project, "fast"), 0.5)

    def experiment(name: str, settings: Sequence[str], target: str) -> None:
        leave(name, computed=False)

    leave("long ago", computed=True, s=8)
    run(project, "faster1", ["ss", "eb"], experiment, MORE)
    ss, eb = read_done(project, grid)
    assert [dict(cost.seconds) for one in (ss, eb) for cost in one.costs.values()] == [{}] * 4
    run(project, "faster1", ["ss"], lambda name, settings, target: leave(name, computed=True))
    run(project, "faster1", ["ss"], experiment)  # found in the store: the cell itself knows
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
    run(project, "faster4", ["rcnn"], lambda name, settings, target: None)
    (done,) = read_done(project, GRIDS["faster4"])
    assert len(done.costs) == 3 and not any(cost.seconds for cost in done.costs.values())
    assert GRIDS["faster4"].table([done], "voc2010").endswith("| rcnn | 0 s | – | – | – | – |")  # it has no maps
    run(project, "faster4", ["rcnn"], lambda name, settings, target: leave("now", 2))
    (done,) = read_done(project, GRIDS["faster4"])
    assert [dict(cost.seconds) for cost in done.costs.values()] == [
        {n: 0.5} for n in ("proposals", "features", "detect")
    ]


def test_an_edit_while_a_cell_runs_stays_and_stops_the_grid(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = project / "detectors/fast/params.yaml"
    before = {one: one.read_bytes() for one in project.rglob("*.yaml")}
    names = []

    def experiment(name: str, settings: Sequence[str], target: str) -> None:
        names.append(name)
        as_dvc(project, settings)
        path.write_text(path.read_text() + "# mine\n")

    with pytest.raises(OutputError, match=r"^faster1-ss: its figures are not kept; see to the files named"):
        run(project, "faster1", ["ss", "rpn_300"], experiment)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{path}: was edited while an experiment of the grid ran, and stays as it is now; ")
    assert names == ["faster1-ss"] and path.read_text().endswith("# mine\n")
    assert path.with_name("params.yaml.before-grid").read_bytes() == before.pop(path)
    assert {one: one.read_bytes() for one in before} == before
    assert not read_done(project, GRIDS["faster1"])


def test_a_cell_is_planned_on_what_is_there_when_it_runs(project: Path) -> None:
    """The user edits a file that the first cell does not set: the second runs with the edit, which stays."""
    fast, faster = Layout(project, "fast"), project / "detectors/faster/params.yaml"

    def experiment(name: str, settings: Sequence[str], target: str) -> None:
        as_dvc(project, settings)
        rpn = "rpn" in name
        assert faster.read_text().endswith("# mine\n") == rpn
        if not rpn:
            faster.write_text(faster.read_text() + "# mine\n")
        listed(Layout(project, "faster") if rpn else Layout(project), "propose_1" if rpn else "proposals", {}, name)
        listed(fast, "roi_detect", {"regions": 1.0}, name)
        scored(fast, 0.5)

    edited = faster.read_text() + "# mine\n"
    run(project, "faster1", ["ss", "rpn_300"], experiment)
    assert faster.read_text() == edited and not list(project.rglob("*.before-grid"))


def test_a_dvc_yaml_that_was_absent_is_absent_again(project: Path) -> None:
    dvc_file = project / "detectors/fast/dvc.yaml"
    dvc_file.unlink()

    def experiment(name: str, settings: Sequence[str], target: str) -> None:
        assert dvc_file.exists()
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        run(project, "faster1", ["rpn_300"], experiment)
    assert not dvc_file.exists()


def test_parameters_behind_a_link_are_set_and_put_back_there(project: Path, tmp_path_factory: Any) -> None:
    path = project / "detectors/fast/params.yaml"
    target = tmp_path_factory.mktemp("elsewhere") / "fast.yaml"
    path.rename(target)
    path.symlink_to(target)
    before = target.read_bytes()

    def experiment(name: str, settings: Sequence[str], target_: str) -> None:
        as_dvc(project, settings)
        assert path.is_symlink() and target.read_bytes() != before
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        run(project, "faster1", ["rpn_300"], experiment)
    assert path.is_symlink() and target.read_bytes() == before


@pytest.mark.parametrize("arguments", [["table6", "--show"], ["faster1", "--rows", "rpn300"]])
def test_any_start_puts_back_what_a_killed_grid_changed(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    path = project / "params.yaml"
    before = path.read_bytes()
    former.keep_former(project, {"params.yaml": b"half: [a cell's"})  # not even parameters
    path.write_bytes(b"half: [a cell's")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["grids", str(project), *arguments])
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

    def experiment(name: str, settings: Sequence[str], target: str) -> None:
        as_dvc(project, settings)
        raise error

    monkeypatch.setattr("benchmarks.grids.dvc_experiments", lambda project, stop, lock: experiment)
    with pytest.raises(SystemExit) as end:
        called(str(project), "faster1", "--rows", "rpn_300")
    assert end.value.code == code and capsys.readouterr().err == f"{error}\n"
    assert {path: path.read_bytes() for path in before} == before and not former.folder_of(project).exists()


def test_a_second_grid_is_one_line_and_show_leaves_the_first_alone(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.grids._PATIENCE_S", 0)
    with former.alone(project):
        former.keep_former(project, {"params.yaml": b"a cell's"})
        (line,) = refused(capsys, str(project), "faster1", "--rows", "ss")
        assert line.startswith(f"{project}: another grid, or an experiment of one, is running in it; ")
        called(str(project), "faster1", "--show")
        assert "nothing has been run" in capsys.readouterr().out and former.folder_of(project).exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean_ap": {"voc2007": 0.5}},
        {"mean_ap": {"voc2007": 0.5, "voc2010": "0.5"}},
        {"mean_ap": {}},
        {"column": "300"},
        {"row": 3},
        {"proposals": "many"},
        {"costs": {"fast/roi_detect": {"of": "a", "seconds": {"regions": None}}}},
    ],
)
def test_results_that_are_not_whole_are_told_before_anything_runs(
    project: Path, capsys: pytest.CaptureFixture[str], wrong: dict[str, Any]
) -> None:
    grid = GRIDS["faster1"]
    one = {"row": "ss", "column": "map", "settings": [], "mean_ap": dict.fromkeys(("voc2007", "voc2010"), 0.5)}
    (project / "reports").mkdir()
    path = project / "reports/faster1.json"
    path.write_text(json.dumps([one | {"costs": {}}]))
    assert read_done(project, grid)[0].row == "ss"
    path.write_text(json.dumps([one | {"costs": {}} | wrong]))
    said = "faster1.json: not what this version writes; move it away and run the grid again"

    def experiment(name: str, settings: Sequence[str], target: str) -> None:
        pytest.fail("an experiment ran")

    with pytest.raises(ParamsError, match=said):
        run(project, "faster1", ["ss"], experiment)
    (line,) = refused(capsys, str(project), "faster1", "--show")
    assert line.endswith(said)


def test_a_dvc_yaml_that_is_no_text_is_another(project: Path) -> None:
    path = project / "detectors/fast/dvc.yaml"
    path.write_bytes(b"\xff\xfe")
    assert list(plan(project, "faster1", "ss").files) == ["detectors/fast/dvc.yaml"]


def test_recall_of_proposals_is_the_papers_figure(project: Path) -> None:
    """Two objects, one covered with IoU 0.8 by the second best proposal, the other not at all."""
    grid = GRIDS["figure2"]
    objects = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    record = ImageRecord(1, "1.png", 60, 60, "1" * 64, "test", objects, np.zeros(2, np.int64))
    save_dataset(Dataset("squares", ("square",), (record,)), project / "artifacts/manifest/manifest.json")
    store = Store(project / "artifacts")

    def experiment(name: str, settings: Sequence[str], target: str) -> None:
        assert (name, target) == ("figure2-ss-300", "proposals")
        assert list(settings) == ["proposals.method=selective_search", "proposals.max_proposals=300"]
        boxes = np.array([[50, 0, 60, 10], [0, 0, 10, 8]], np.float32)
        recipe = Recipe("proposals", 1, {}, {"image": "1" * 64})
        store.put(recipe, Payload({"boxes": boxes}, {"count": 2}, "hdf5"))
        summary = {"splits": {"test": {"mean_boxes": 2.0}}}
        made = Artifact("proposals", 1, {}, {}, ((1, recipe.key),), summary)
        (project / "artifacts/proposals").mkdir(parents=True)
        made.write(project / "artifacts/proposals/manifest.json")

    run(project, "figure2", ["ss"], experiment, column="300")
    (done,) = read_done(project, grid)
    assert done.recall == {f"{iou / 100:.2f}": 0.5 if iou <= 80 else 0.0 for iou in range(50, 101, 5)}
    assert not done.mean_ap and not done.costs
    table = grid.table([done], "voc2010").splitlines()
    assert table[0].startswith("| recall (%) at IoU | proposals per image | 0.50 | 0.55 |")
    assert table[2] == "| SS 300 | 2 |" + " 50.0 |" * 7 + " 0.0 |" * 4
