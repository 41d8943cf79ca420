"""Each cell of the shipped grids is valid parameters, the paper's; what is wrong is told before anything runs."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grid_projects import (
    GRIDS,
    ROLES,
    plan,
    refused,
    set_by_hand,
)

from pipeline.cli import main
from pipeline.detectors import Layout
from pipeline.dvc_files import write_all
from pipeline.grids.declared import CellName
from pipeline.grids.plans import WhatIsScored, planned
from pipeline.params import load_params
from stages.graph import ROOT


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
    assert list(rows) == list(GRIDS["faster-table1"].rows)
    for row, (train, test, proposed) in rows.items():
        made = plan(roles, "faster-table1", row)
        documents = set_by_hand(roles, made)
        assert made.detector == ("faster" if row == "shared" else "fast") and made.measured is WhatIsScored.DETECTIONS
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
    assert (
        set_by_hand(roles, plan(roles, "faster-table1", "eb"))["params.yaml"]["proposals"]["file"]["path"] == "edges.h5"
    )


def test_what_is_measured_of_whom(roles: Path) -> None:
    """The nodes that a test image passes, whose times are read; and the proposals whose number is."""
    made = plan(roles, "faster-table1", "vgg_300")
    assert made.nodes == [("vgg", "propose_1"), ("fast", "roi_detect")]
    assert made.proposals == "artifacts/detectors/vgg/propose_1/manifest.json"
    assert list(made.files) == ["detectors/fast/dvc.yaml"]
    shared = plan(roles, "faster-table1", "shared")
    assert shared.nodes == [("faster", "maps"), ("faster", "propose_2"), ("faster", "roi_detect")]
    assert shared.proposals == "artifacts/detectors/faster/propose_2/manifest.json" and not shared.files
    ss = plan(roles, "faster-table1", "ss")
    assert ss.nodes == [(ROOT, "proposals"), ("fast", "roi_detect")] and not ss.files
    given = plan(roles, "faster-figure2", "ss", "300")
    assert (given.target, given.measured) == ("proposals", WhatIsScored.PROPOSALS)
    assert given.proposals == "artifacts/proposals/manifest.json"
    rpn = plan(roles, "faster-figure2", "rpn_vgg", "1k")
    assert rpn.target == "detectors/vgg/dvc.yaml:propose_1"
    assert rpn.proposals == "artifacts/detectors/vgg/propose_1/manifest.json"
    assert plan(roles, "faster-table4", "rcnn").nodes == [(ROOT, "proposals"), (ROOT, "features"), (ROOT, "detect")]


def test_a_segmentation_depends_on_the_detector_and_on_its_own_stages(roles: Path) -> None:
    """Filled boxes, a reference on its page, are the detector's; the figures depend on all that leads to them."""
    made = plan(roles, "segmentation-table5", "fc7", "fg")
    assert (made.target, made.measured) == ("segmentation/dvc.yaml:segment_evaluate", WhatIsScored.SEGMENTATION)
    assert made.proposals == "artifacts/proposals/manifest.json" and not made.nodes and not made.files
    assert {"region_overlaps", "region_features", "svr", "paste", "segment_evaluate"} <= set(made.origin.versions)
    assert made.origin.parameters["region_features.features"] == "fg"
    own = set_by_hand(roles, made)["params.yaml"]["region_features"]
    assert (own["layer"], own["features"]) == ("fc7", "fg")


def test_dense_windows_are_all_anchors(roles: Path) -> None:
    made = set_by_hand(roles, plan(roles, "faster-table5", "dense_1"))
    assert made["detectors/fast/params.yaml"]["regions"] == dict.fromkeys(("train", "test"), "faster/propose_1")
    propose = made["detectors/faster/params.yaml"]["propose"]
    limits = ("before_nms", "train_before_nms", "nms_iou")
    assert [propose[name] for name in limits] == [None] * 3 and not propose["regress"]
    anchors = 63 * 38 * 9  # of a 1000 x 600 px map of stride 16: "20k"
    assert min(propose["after_nms"], propose["train_after_nms"]) > anchors


def test_a_detector_in_a_role(project: Path) -> None:
    (project / "detectors/faster").rename(project / "detectors/zf")
    grid = GRIDS["faster-table1"]
    made = planned(project, grid, CellName("rpn_300", ""), [], {"faster": "zf"})
    assert any(setting.for_dvc == "detectors/fast/params.yaml:regions.test=zf/propose_1" for setting in made.settings)
    assert any(setting.for_dvc == "detectors/zf/params.yaml:propose.after_nms=300" for setting in made.settings)
    assert "artifacts/detectors/zf/propose_1/manifest.json" in made.files["detectors/fast/dvc.yaml"]


TABLE1 = "faster-table1"


WRONG = [
    (
        [TABLE1, "--rows", "rpn300"],
        "--rows rpn300: there is none (did you mean 'rpn_300'?); rows: ss, eb, shared, ",
    ),
    (["faster-figure2", "--columns", "3k"], "--columns 3k: there is none"),
    (
        [TABLE1, "--rows", "eb"],
        "params.yaml: row eb: EdgeBoxes are another program's boxes (docs/proposal-file.md): "
        "--set eb:proposals.file.path=VALUE, or leave the row out (--rows)",
    ),
    (["faster-table2", "--rows", "ss_0712"], "row ss_0712: 07+12 is a list of your splits"),
    (
        [TABLE1, "--rows", "ss", "--set", "a=1"],
        "--set 'a=1' is not WHERE:NAME=VALUE with WHERE of all, eb, no_cls_1",
    ),
    (["sppnet-table6", "--set", "spp:a"], "--set 'spp:a' is not WHERE:NAME=VALUE with WHERE of all, fc6, ft, "),
    (
        [TABLE1, "--rows", "ss", "--set", "ss:svm.CC=1"],
        "--set 'ss:svm.CC=1': there is no parameter 'svm.CC' (did you mean 'svm.C'?); `rcnn params` lists them",
    ),
    (
        [TABLE1, "--rows", "ss", "--set", "ss:fast/fast.lr=-1"],
        "detectors/fast/params.yaml: fast.lr = -1: input should",
    ),
    ([TABLE1, "--rows", "ss", "--set", "ss:slow/fast.lr=1"], "slow/fast.lr: there is no role 'slow'"),
    ([TABLE1, "--rows", "ss", "--set", "ss:seed=]"], "--set 'ss:seed=]': the value is not YAML; mend it"),
    (
        [TABLE1, "--detector", "zf=faster"],
        "--detector 'zf=faster' is not ROLE=NAME with ROLE of fast, faster, vgg",
    ),
    (
        [TABLE1, "--rows", "ss", "--detector", "fast=slow"],
        "has no detector 'slow'; `rcnn detector add slow --kind f",
    ),
    (
        [TABLE1, "--rows", "ss", "--detector", "fast=vgg"],
        "grids/faster-table1.yaml takes a fast of kind fast",
    ),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG)
def test_what_is_wrong_is_one_line_before_anything_runs(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    (line,) = refused(capsys, str(project), *arguments)
    assert said in line
    assert before == {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}


def test_an_unknown_parameter_is_told_with_the_file_and_the_key_before_anything_runs(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "rows: {a: {set: {svm.C: 1}}, b: {set: {svm.CC: 1}}}\ncolumns: {c: {}, d: {set: {features.context_px: 999}}}\n"
    )
    path = project / "mine.yaml"
    path.write_text(text)
    before = {one: one.read_bytes() for one in project.rglob("*") if one.is_file()}
    monkeypatch.setattr("sys.argv", ["rcnn", "-C", str(project), "grid", str(path)])
    with pytest.raises(SystemExit, match="2"):
        main()
    unknown, out_of_range = capsys.readouterr().err.splitlines()
    assert unknown == (
        f"rcnn: {path}: rows.b.set: there is no parameter 'svm.CC' (did you mean 'svm.C'?); `rcnn params` lists them"
    )
    assert "features.context_px = 999: " in out_of_range and f"(set by {path}: columns.d.set)" in out_of_range
    assert {one: one.read_bytes() for one in before} == before
    (project / "params.yaml").write_text((project / "params.yaml").read_text().replace("  padding: mean ", "  # "))
    path.write_text("rows: {a: {set: {features.padding: replicate}}}\n")
    with pytest.raises(SystemExit, match="2"):
        main()
    (absent,) = capsys.readouterr().err.splitlines()
    assert f"{path}: rows.a.set: " in absent and "has no features.padding to be set; add it there" in absent


def test_all_cells_are_checked_before_the_first_runs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "detectors/vgg/params.yaml").unlink()
    lines = refused(capsys, str(project), "faster-table1", "--detector", "fast=fast_vgg")
    assert len(lines) == 2  # of rows eb and vgg_300
    assert "EdgeBoxes" in lines[0] and "has no detector 'vgg'" in lines[1]


@pytest.mark.parametrize("table", GRIDS)
def test_a_folder_that_is_no_project_is_one_line(
    table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, str(tmp_path), table) == [
        f"rcnn: {tmp_path / 'params.yaml'}: not found; run from the project's folder, where dvc.yaml is"
    ]


def test_a_dvc_yaml_that_is_no_text_is_another(project: Path) -> None:
    path = project / "detectors/fast/dvc.yaml"
    path.write_bytes(b"\xff\xfe")
    assert list(plan(project, "faster-table1", "ss").files) == ["detectors/fast/dvc.yaml"]
