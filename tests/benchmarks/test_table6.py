"""The grid of the SPP paper's Table 6: its cells are valid parameters; the paper's numbers give the paper's table."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.table6 import COLUMNS, ROWS, Cell, main, read_cells, run_grid, settings_of, table
from cache import Artifact
from pipeline import timings
from pipeline.detectors import Layout
from pipeline.params import parse_params

ROOT = Path(__file__).parents[2]
PAPER = {
    "pool5": (43.0, 44.9, 44.2),
    "fc6": (42.5, 44.8, 46.2),
    "ftfc6": (52.3, 53.7, 53.1),
    "ftfc7": (54.5, 55.2, 54.2),
    "ftfc7bb": (58.0, 59.2, 58.5),
}
TIMES = {"spp1": (0.053, 0.089), "spp5": (0.293, 0.089), "rcnn": (8.96, 0.07)}


def called(*arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["table6", *arguments])
        main()


def cell(row: str, column: str, mean_ap: float, features: str, seconds: dict[str, float]) -> Cell:
    return Cell(row, column, [], {"voc2007": mean_ap / 100, "voc2010": 0.0}, features, seconds)


def papers_cells() -> list[Cell]:
    cells = []
    for row, scores in PAPER.items():
        for column, score in zip(COLUMNS, scores, strict=True):
            conv, fc = TIMES[column]
            cells.append(cell(row, column, score, f"{column}{ROWS[row][0]}", {"conv": conv, "fc": fc, "rest": 0.0}))
    return cells


def overridden(document: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Set a parameter as ``dvc exp run -S`` does."""
    for setting in settings:
        name, _, value = setting.partition("=")
        *path, last = name.split(".")
        group = document
        for key in path:
            group = group[key]
        assert last in group, name
        group[last] = yaml.safe_load(value)
    return document


def test_the_papers_numbers_give_the_papers_table() -> None:
    lines = [
        [part.strip() for part in line.strip("|").split("|")] for line in table(papers_cells(), "voc2007").split("\n")
    ]
    assert lines[0] == ["", "SPP (1-sc)", "SPP (5-sc)", "R-CNN"]
    assert lines[2:7] == [[row, *(f"{score}" for score in scores)] for row, scores in PAPER.items()]
    assert lines[7:] == [
        ["conv time", "0.053 s", "0.293 s", "8.96 s"],
        ["fc time", "0.089 s", "0.089 s", "0.07 s"],
        ["rest time", "0 s", "0 s", "0 s"],
        ["total time", "0.142 s", "0.382 s", "9.03 s"],
        ["times faster than R-CNN", "64x", "24x", "–"],
    ]


def test_what_is_not_known_is_a_dash() -> None:
    text = table(
        [cell("pool5", "spp1", 40, "a", {}), cell("fc6", "rcnn", 41, "b", {"conv": 2.0, "rest": 1.0})], "voc2007"
    )
    assert "| pool5 | 40.0 | – |" in text
    assert "| fc6 | – | 41.0 |" in text
    assert "| fc time | – | 0 s |" in text
    assert "| total time | – | 3 s |" in text
    assert "| times faster than R-CNN | – | – |" in text


def test_a_columns_time_is_the_mean_of_its_features() -> None:
    plain, tuned = {"conv": 1.0, "fc": 2.0}, {"conv": 3.0, "fc": 4.0}
    cells = [cell(row, "rcnn", 1, f"{ROWS[row][0]}", tuned if ROWS[row][0] else plain) for row in ROWS]
    assert "| total time | 5 s |" in table(cells)  # the number of rows that share features does not count


@pytest.mark.parametrize(("row", "column"), list(itertools.product(ROWS, COLUMNS)))
def test_every_cell_is_valid_parameters(row: str, column: str) -> None:
    document = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params: Any = parse_params(overridden(document, settings_of(row, column, list(ROWS))))
    tuned, layer, regression = ROWS[row]
    assert (params.finetune.iterations > 0, params.svm.layer, params.bbox.enabled) == (tuned, layer, regression)
    assert set(params.features.layers) == {"pool5", "fc6", "fc7"}
    assert params.features.method == ("warp" if column == "rcnn" else "spp")
    assert params.features.spp.scales_px == ((480, 576, 688, 864, 1200) if column == "spp5" else (688,))
    ridge = (1000, 0.6) if column == "rcnn" else (4000, 0.5)
    assert (params.bbox.ridge_lambda, params.bbox.min_iou, params.bbox.layer) == (*ridge, "pool5")


def test_features_are_shared_within_a_column() -> None:
    for column in COLUMNS:
        made_of = {
            tuple(
                s for s in settings_of(row, column, list(ROWS)) if s.startswith(("features.", "finetune.", "network."))
            )
            for row in ROWS
        }
        assert len(made_of) == 2  # with fine-tuning and without


def test_further_settings_go_where_they_belong() -> None:
    more = [("spp", "a=1"), ("ft", "b=2"), ("rcnn", "c=3"), ("fc6", "d=4"), ("all", "e=5")]

    def added(row: str, column: str) -> set[str]:
        return {s for s in settings_of(row, column, list(ROWS), more) if len(s) == 3}

    assert added("fc6", "spp1") == {"a=1", "d=4", "e=5"}
    assert added("ftfc7", "spp5") == {"a=1", "b=2", "e=5"}
    assert added("ftfc6", "rcnn") == {"b=2", "c=3", "e=5"}
    again = settings_of("pool5", "spp1", ["pool5"], [("spp", "features.spp.scales_px=[200]")])
    assert [s for s in again if "scales_px" in s] == ["features.spp.scales_px=[200]"]


def test_a_grid_keeps_each_cell_and_puts_the_parameters_back(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("as it was")
    seen: list[str] = []

    def experiment(name: str, settings: Sequence[str]) -> None:
        assert (tmp_path / "params.yaml").read_text() == "as it was"
        (tmp_path / "params.yaml").write_text("changed by dvc")
        if name == "table6-fc6-rcnn":
            raise RuntimeError("stopped")
        features = Artifact("features", 1, {"method": settings[0]}, {}, (), {})
        (tmp_path / "artifacts/features").mkdir(parents=True, exist_ok=True)
        features.write(tmp_path / "artifacts/features/manifest.json")
        (tmp_path / "reports").mkdir(exist_ok=True)
        scores = {"voc2007": {"mAP": 0.5}, "voc2010": {"mAP": 0.25}}
        (tmp_path / "reports/metrics.json").write_text(json.dumps(scores))
        computed = not any(settings[0] in one for one in seen)  # the second finds them in the store
        costs = {features.digest: {"conv": 1.0}} if computed else {}
        timings.record(Layout(tmp_path), "features", 1, {"computed": int(computed), "reused": int(not computed)}, costs)
        seen.append(f"{name} {settings[0]}")

    with pytest.raises(RuntimeError, match="stopped"):
        run_grid(tmp_path, ["pool5", "fc6"], ["spp1", "rcnn"], [], experiment)
    assert (tmp_path / "params.yaml").read_text() == "as it was"
    cells = read_cells(tmp_path)
    assert [(c.row, c.column) for c in cells] == [("pool5", "spp1"), ("fc6", "spp1"), ("pool5", "rcnn")]
    assert all(c.seconds == {"conv": 1.0} for c in cells)
    assert cells[0].features == cells[1].features != cells[2].features
    assert cells[0].mean_ap == {"voc2007": 0.5, "voc2010": 0.25}
    run_grid(tmp_path, ["pool5"], ["spp1"], [], experiment)
    assert len(read_cells(tmp_path)) == 3


@pytest.mark.parametrize("text", ["features.spp.levels=[6]", "nowhere:a=1", "spp:a"])
def test_a_setting_without_its_place_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        called("x", "--set", text)
    assert f"{text!r} is not WHERE:NAME=VALUE with WHERE of all, fc6, ft, " in capsys.readouterr().err


def test_rows_with_fine_tuning_need_iterations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    document["finetune"]["iterations"] = 0
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(SystemExit, match="2"):
        called(str(tmp_path))
    assert "params.yaml: finetune.iterations is 0; set it, or leave out the rows" in capsys.readouterr().err


@pytest.mark.parametrize("rows", [("pool5",), ("pool5", "ftfc7")])
def test_a_folder_that_is_no_project_is_one_line(
    rows: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        called(str(tmp_path), "--rows", *rows)
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path / 'params.yaml'}: not found; run from the project's folder, where dvc.yaml is"
    ]


def test_show_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    called(str(tmp_path), "--show")
    assert "nothing has been run" in capsys.readouterr().out
