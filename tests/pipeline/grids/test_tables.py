"""The tables that grids print: the papers' numbers give the papers' tables; what is not known is a dash."""

from collections.abc import Mapping

import pytest

from benchmarks.plans import settings_of
from benchmarks.tables import GRIDS
from benchmarks.tables.faster import TABLE1, TABLE2, timing
from benchmarks.tables.grid import Cost, Done
from benchmarks.tables.spp import COLUMNS, ROWS

SPP = GRIDS["table6"]
PAPER = {
    "pool5": (43.0, 44.9, 44.2),
    "fc6": (42.5, 44.8, 46.2),
    "ftfc6": (52.3, 53.7, 53.1),
    "ftfc7": (54.5, 55.2, 54.2),
    "ftfc7bb": (58.0, 59.2, 58.5),
}
TIMES = {"spp1": (0.053, 0.089), "spp5": (0.293, 0.089), "rcnn": (8.96, 0.07)}


def lines_of(text: str) -> list[list[str]]:
    return [[part.strip() for part in line.strip("|").split("|")] for line in text.split("\n")]


def done(row: str, column: str, mean_ap: float, costs: Mapping[str, Cost], proposals: float | None = None) -> Done:
    return Done(row, column, [], {"voc2007": mean_ap / 100, "voc2010": 0.0}, costs, proposals)


def of_features(row: str, column: str, mean_ap: float, digest: str, seconds: dict[str, float]) -> Done:
    return done(row, column, mean_ap, {"rcnn/proposals": Cost("p", {}), "rcnn/features": Cost(digest, seconds)})


def test_spp_nets_numbers_give_its_table_6() -> None:
    cells = []
    for row, scores in PAPER.items():
        for column, score in zip(COLUMNS, scores, strict=True):
            conv, fc = TIMES[column]
            seconds = {"conv": conv, "fc": fc, "rest": 0.0}
            cells.append(of_features(row, column, score, f"{column}{ROWS[row][0]}", seconds))
    lines = lines_of(SPP.table(cells, "voc2007"))
    assert lines[0] == ["", "SPP (1-sc)", "SPP (5-sc)", "R-CNN"]
    assert lines[2:7] == [[row, *(f"{score}" for score in scores)] for row, scores in PAPER.items()]
    assert lines[7:] == [
        ["conv time", "0.053 s", "0.293 s", "8.96 s"],
        ["fc time", "0.089 s", "0.089 s", "0.07 s"],
        ["rest time", "0 s", "0 s", "0 s"],
        ["total time", "0.142 s", "0.382 s", "9.03 s"],
        ["times faster than R-CNN", "64x", "24x", "–"],
    ]


def test_what_is_not_known_of_table_6_is_a_dash() -> None:
    cells = [
        of_features("pool5", "spp1", 40, "a", {}),
        of_features("fc6", "rcnn", 41, "b", {"conv": 2.0, "rest": 1.0}),
    ]
    text = SPP.table(cells, "voc2007")
    assert "| pool5 | 40.0 | – |" in text
    assert "| fc6 | – | 41.0 |" in text
    assert "| fc time | – | 0 s |" in text
    assert "| total time | – | 3 s |" in text
    assert "| times faster than R-CNN | – | – |" in text


def test_a_columns_time_is_the_mean_of_its_features() -> None:
    plain, tuned = {"conv": 1.0, "fc": 2.0}, {"conv": 3.0, "fc": 4.0}
    cells = [of_features(row, "rcnn", 1, f"{ROWS[row][0]}", tuned if ROWS[row][0] else plain) for row in ROWS]
    assert "| total time | 5 s |" in SPP.table(cells, "voc2010")  # rows that share features count once


def test_features_are_shared_within_a_column() -> None:
    for column in COLUMNS:
        cells = [settings_of(SPP.cell(row, column, list(ROWS)), row, column) for row in ROWS]
        made_of = {tuple(s for s in cell if s.startswith(("features.", "finetune.", "network."))) for cell in cells}
        assert len(made_of) == 2  # with fine-tuning and without


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("row", ROWS)
def test_a_cell_of_table_6_is_the_papers(row: str, column: str) -> None:
    cell = SPP.cell(row, column, list(ROWS))
    found = dict(setting.split("=") for setting in cell.settings)
    assert found["features.layers"] == "[fc6,fc7,pool5]" and found["svm.layer"] == row.removeprefix("ft")[:5].rstrip(
        "b"
    )
    assert (found["bbox.enabled"], found["bbox.layer"]) == (str(row == "ftfc7bb").lower(), "pool5")
    assert (found.get("finetune.iterations") == "0") == (not row.startswith("ft"))
    assert found["features.method"] == ("warp" if column == "rcnn" else "spp")
    scales = {"spp1": "[688]", "spp5": "[480,576,688,864,1200]", "rcnn": None}
    assert found.get("features.spp.scales_px") == scales[column]
    ridge = (None, None) if column == "rcnn" else ("4000", "0.5")
    assert (found.get("bbox.ridge_lambda"), found.get("bbox.min_iou")) == ridge


def test_further_settings_go_where_they_belong() -> None:
    more = [("spp", "a=1"), ("ft", "b=2"), ("rcnn", "c=3"), ("fc6", "d=4"), ("all", "e=5")]

    def added(row: str, column: str) -> set[str]:
        cell = SPP.cell(row, column, list(ROWS))
        return {setting for setting in settings_of(cell, row, column, more) if len(setting) == 3}

    assert added("fc6", "spp1") == {"a=1", "d=4", "e=5"}
    assert added("ftfc7", "spp5") == {"a=1", "b=2", "e=5"}
    assert added("ftfc6", "rcnn") == {"b=2", "c=3", "e=5"}
    cell = SPP.cell("pool5", "spp1", ["pool5"])
    again = settings_of(cell, "pool5", "spp1", [("spp", "features.spp.scales_px=[200]")])
    assert [s for s in again if "scales_px" in s] == ["features.spp.scales_px=[200]"]


def test_table_1_stands_in_the_papers_order() -> None:
    cells = [done(row, "map", paper, {}, 250.4) for row, (*_, paper, _) in reversed(list(TABLE1.items()))]
    lines = lines_of(GRIDS["faster1"].table(cells, "voc2007"))
    assert [line[0] for line in lines[2:]] == list(TABLE1) and len(TABLE1) == 14
    assert all(line[5] == line[6] and line[4] == "250" for line in lines[2:])
    papers = "58.7 58.6 59.9 58.7 55.1 56.8 56.3 55.2 44.6 51.4 55.8 52.1 51.3 59.2"
    assert [line[6] for line in lines[2:]] == papers.split()


# Of the paper's Table 4, on VGG: conv, proposal, region-wise.
RPN = {
    "vgg/maps": Cost("a", {"conv": 0.141}),
    "vgg/propose_2": Cost("b", {"rpn": 0.004, "proposals": 0.006}),
    "vgg/roi_detect": Cost("c", {"regions": 0.04, "suppression": 0.007}),
}
SEARCH = {
    "rcnn/proposals": Cost("d", {"proposals": 1.51}),
    "fast/roi_detect": Cost("e", {"conv": 0.146, "regions": 0.174}),
}


def test_the_papers_times_give_table_4() -> None:
    cells = [done("ss", "time", 0, SEARCH), done("rpn", "time", 0, RPN)]
    assert lines_of(GRIDS["faster4"].table(cells, "voc2007"))[2:] == [
        ["rpn", "0.141 s", "0.01 s", "0.047 s", "0.198 s", "5.05 fps"],
        ["ss", "0.146 s", "1.51 s", "0.174 s", "1.83 s", "0.546 fps"],
    ]


def test_a_map_that_two_nodes_of_a_detector_compute_counts_once() -> None:
    parts = {"conv": 0.2, "rpn": 0.1, "proposals": 0.1}
    one = {"once/propose": Cost("a", parts), "once/roi_detect": Cost("b", {"conv": 0.4, "regions": 0.5})}
    assert timing(done("joint", "time", 0, one)) == pytest.approx(
        {"conv": 0.3, "proposal": 0.2, "region-wise": 0.5, "total": 1.0}
    )
    two = {"vgg/propose_1": Cost("a", parts), "fast/roi_detect": Cost("b", {"conv": 0.4, "regions": 0.5})}
    unshared = timing(done("unshared", "time", 0, two))
    assert unshared["conv"] == pytest.approx(0.6) and unshared["total"] == pytest.approx(1.3)


def test_a_time_that_is_not_known_is_a_dash() -> None:
    unknown = SEARCH | {"rcnn/proposals": Cost("d", {})}
    lines = lines_of(GRIDS["faster4"].table([done("ss", "time", 0, unknown), done("no", "time", 0, {})], "voc2007"))
    assert lines[3] == ["ss", "0.146 s", "–", "0.174 s", "–", "–"]
    assert lines[2][-2:] == ["–", "–"]


def test_table_2_has_map_and_time() -> None:
    cells = [done(row, "map", paper, RPN) for row, (_, _, _, paper, _, _) in TABLE2.items()]
    lines = lines_of(GRIDS["faster2"].table(cells, "voc2007"))
    assert [line[4] for line in lines[2:]] == ["66.9", "70.0", "68.5", "69.9", "73.2"]
    assert lines[-1] == ["shared_0712", "RPN+VGG, shared", "300", "07+12", "73.2", "0.198 s", "73.2, 0.198 s"]


def test_figure_2_is_by_number_and_method() -> None:
    cells = [
        Done(row, column, [], recall={"0.50": 0.9, "0.70": 0.5}, proposals=200)
        for row in ("rpn_zf", "ss")
        for column in ("2k", "300")
    ]
    lines = lines_of(GRIDS["figure2"].table(cells, "voc2010"))
    assert lines[0] == ["recall (%) at IoU", "proposals per image", "0.50", "0.70"]
    assert [line[0] for line in lines[2:]] == ["SS 300", "RPN, ZF 300", "SS 2k", "RPN, ZF 2k"]
    assert lines[2] == ["SS 300", "200", "90.0", "50.0"]
