"""The tables that grids print: the papers' numbers give the papers' tables; what is not known is a dash."""

import csv
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cache.errors import ParamsError
from pipeline.grids.declared import CellName, Given, Grid
from pipeline.grids.figures import figures_of, timing
from pipeline.grids.measured import Cost, Done
from pipeline.grids.origins import CellOrigin
from pipeline.grids.plans import settings_of
from pipeline.grids.printing import Shown, named_cell, printed
from pipeline.grids.reading import read_grid

GRIDS = {path.stem: read_grid(path) for path in (Path(__file__).parents[3] / "grids").glob("*.yaml")}
SPP = GRIDS["sppnet-table6"]
NOWHERE = CellOrigin(parameters={}, versions={}, files={})
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


def cost(of: str, seconds: Mapping[str, float]) -> Cost:
    return Cost(of=of, seconds=dict(seconds))


def done(
    row: str,
    column: str,
    mean_ap: float,
    costs: Mapping[str, Cost],
    proposals: float | None = None,
    seed: int | None = None,
) -> Done:
    scores = {"voc2007": mean_ap / 100, "voc2010": 0.0}
    return Done(
        row=row,
        column=column,
        seed=seed,
        settings=[],
        origin=NOWHERE,
        mean_ap=dict(scores),
        ap={name: {"cat": value, "dog": None} for name, value in scores.items()},
        costs=dict(costs),
        proposals=proposals,
    )


def of_features(row: str, column: str, mean_ap: float, digest: str, seconds: dict[str, float]) -> Done:
    return done(row, column, mean_ap, {"rcnn/proposals": cost("p", {}), "rcnn/features": cost(digest, seconds)})


def table(grid: Grid, cells: list[Done], protocol: str = "voc2007", form: str = "md") -> str:
    return printed(Shown(grid, cells, {}, protocol), form)


def test_spp_nets_numbers_give_its_table_6() -> None:
    cells = []
    for row, scores in PAPER.items():
        for column, score in zip(SPP.columns, scores, strict=True):
            conv, fc = TIMES[column]
            seconds = {"conv": conv, "fc": fc, "rest": 0.0}
            cells.append(of_features(row, column, score, f"{column}{row[:2]}", seconds))
    lines = lines_of(table(SPP, cells, "voc2007"))
    assert lines[0] == ["", "SPP (1-sc)", "SPP (5-sc)", "R-CNN"]
    assert lines[2:7] == [[row, *(f"{score} ({score})" for score in scores)] for row, scores in PAPER.items()]
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
    text = table(SPP, cells, "voc2007")
    assert "| pool5 | 40.0 (43.0) | – (44.2) |" in text
    assert "| fc6 | – (42.5) | 41.0 (46.2) |" in text
    assert "| fc time | – | 0 s |" in text
    assert "| total time | – | 3 s |" in text
    assert "| times faster than R-CNN | – | – |" in text


def test_a_columns_time_is_the_mean_of_its_features() -> None:
    plain, tuned = {"conv": 1.0, "fc": 2.0}, {"conv": 3.0, "fc": 4.0}
    cells = [of_features(row, "rcnn", 1, str(row[:2] == "ft"), tuned if row[:2] == "ft" else plain) for row in SPP.rows]
    assert "| total time | 5 s |" in table(SPP, cells, "voc2010")  # rows that share features count once


def settings(row: str, column: str) -> dict[str, object]:
    return {one.name: one.value for one in settings_of(SPP.cell(row, column), row, column)}


def test_features_are_shared_within_a_column() -> None:
    for column in SPP.columns:
        made_of = {
            str({name: value for name, value in settings(row, column).items() if name.split(".")[0] in FEATURES})
            for row in SPP.rows
        }
        assert len(made_of) == 2  # with fine-tuning and without


FEATURES = ("features", "finetune", "network")


@pytest.mark.parametrize("column", SPP.columns)
@pytest.mark.parametrize("row", SPP.rows)
def test_a_cell_of_table_6_is_the_papers(row: str, column: str) -> None:
    found = settings(row, column)
    assert found["features.layers"] == ["fc6", "fc7", "pool5"]
    assert found["svm.layer"] == {"pool5": "pool5", "fc6": "fc6", "ftfc6": "fc6"}.get(row, "fc7")
    assert (found["bbox.enabled"], found["bbox.layer"]) == (row == "ftfc7bb", "pool5")
    assert (found.get("finetune.iterations") == 0) == (not row.startswith("ft"))
    assert found["features.method"] == ("warp" if column == "rcnn" else "spp")
    scales = {"spp1": [688], "spp5": [480, 576, 688, 864, 1200], "rcnn": None}
    assert found.get("features.spp.scales_px") == scales[column]
    ridge = (None, None) if column == "rcnn" else (4000, 0.5)
    assert (found.get("bbox.ridge_lambda"), found.get("bbox.min_iou")) == ridge


def test_further_settings_go_where_they_belong() -> None:
    given = {"spp": "a", "ft": "b", "rcnn": "c", "fc6": "d", "all": "e"}
    more = [(scope, Given(name, 1, "--set")) for scope, name in given.items()]

    def added(row: str, column: str) -> str:
        found = settings_of(SPP.cell(row, column), row, column, more)
        return "".join(sorted(one.name for one in found if len(one.name) == 1))

    assert [added("fc6", "spp1"), added("ftfc7", "spp5"), added("ftfc6", "rcnn")] == ["ade", "abe", "bce"]
    scales = [("spp", Given("features.spp.scales_px", [200], "--set"))]
    again = settings_of(SPP.cell("pool5", "spp1"), "pool5", "spp1", scales)
    assert [one.value for one in again if one.name == "features.spp.scales_px"] == [[200]]


def test_table_1_stands_in_the_papers_order() -> None:
    rows = GRIDS["faster-table1"].rows
    cells = [done(row, "", float(line.paper[""]), {}, 250.4) for row, line in reversed(list(rows.items()))]
    lines = lines_of(table(GRIDS["faster-table1"], cells))
    assert lines[0] == ["", "trained on", "tested on", "at most", "proposals per image", "mAP (%)", "the paper"]
    assert [line[0] for line in lines[2:]] == list(rows) and len(rows) == 14
    assert all(line[5] == line[6] and line[4] == "250" for line in lines[2:])
    papers = "58.7 58.6 59.9 58.7 55.1 56.8 56.3 55.2 44.6 51.4 55.8 52.1 51.3 59.2"
    assert [line[6] for line in lines[2:]] == papers.split()


# Of the paper's Table 4, on VGG: conv, proposal, region-wise.
RPN = {
    "vgg/maps": cost("a", {"conv": 0.141}),
    "vgg/propose_2": cost("b", {"rpn": 0.004, "proposals": 0.006}),
    "vgg/roi_detect": cost("c", {"regions": 0.04, "suppression": 0.007}),
}
SEARCH = {
    "rcnn/proposals": cost("d", {"proposals": 1.51}),
    "fast/roi_detect": cost("e", {"conv": 0.146, "regions": 0.174}),
}


def test_the_papers_times_give_table_4() -> None:
    cells = [done("ss", "", 0, SEARCH), done("rpn", "", 0, RPN)]
    assert lines_of(table(GRIDS["faster-table4"], cells))[2:] == [
        ["rpn", "0.141 s", "0.01 s", "0.047 s", "0.198 s", "5.05 fps"],
        ["ss", "0.146 s", "1.51 s", "0.174 s", "1.83 s", "0.546 fps"],
    ]


def test_a_map_that_two_nodes_of_a_detector_compute_counts_once() -> None:
    parts = {"conv": 0.2, "rpn": 0.1, "proposals": 0.1}
    one = {"once/propose": cost("a", parts), "once/roi_detect": cost("b", {"conv": 0.4, "regions": 0.5})}
    assert timing(done("joint", "", 0, one)) == pytest.approx(
        {"conv": 0.3, "proposal": 0.2, "region-wise": 0.5, "total": 1.0}
    )
    two = {"vgg/propose_1": cost("a", parts), "fast/roi_detect": cost("b", {"conv": 0.4, "regions": 0.5})}
    unshared = timing(done("unshared", "", 0, two))
    assert unshared["conv"] == pytest.approx(0.6) and unshared["total"] == pytest.approx(1.3)


def test_a_time_that_is_not_known_is_a_dash() -> None:
    unknown = SEARCH | {"rcnn/proposals": cost("d", {})}
    lines = lines_of(table(GRIDS["faster-table4"], [done("ss", "", 0, unknown), done("no", "", 0, {})]))
    assert lines[3] == ["ss", "0.146 s", "–", "0.174 s", "–", "–"]
    assert lines[2][-2:] == ["–", "–"]


def test_table_2_has_map_and_time() -> None:
    papers = {"ss_07": 66.9, "ss_0712": 70.0, "unshared_07": 68.5, "shared_07": 69.9, "shared_0712": 73.2}
    lines = lines_of(table(GRIDS["faster-table2"], [done(row, "", paper, RPN) for row, paper in papers.items()]))
    assert [line[4] for line in lines[2:]] == ["66.9", "70.0", "68.5", "69.9", "73.2"]
    assert lines[-1] == ["shared_0712", "RPN+VGG, shared", "300", "07+12", "73.2", "0.198 s", "73.2, 0.198 s"]


def test_figure_2_is_by_number_and_method() -> None:
    recall = {"0.50": 0.9, "0.70": 0.5}
    cells = [
        Done(row=row, column=column, settings=[], origin=NOWHERE, recall=recall, proposals=200)
        for row in ("rpn_zf", "ss")
        for column in ("2k", "300")
    ]
    lines = lines_of(table(GRIDS["faster-figure2"], cells))
    assert lines[0] == ["", "", "proposals per image", "recall (%) at IoU 0.50", "recall (%) at IoU 0.70"]
    assert [line[:2] for line in lines[2:]] == [["SS", "300"], ["RPN, ZF", "300"], ["SS", "2k"], ["RPN, ZF", "2k"]]
    assert lines[2] == ["SS", "300", "200", "90.0", "50.0"]


SOFTMAX = [done("svm", "", score, {}, seed=seed) for seed, score in ((3, 54.0), (4, 56.0))]
SOFTMAX += [done("softmax", "", 50.9, {}, seed=3)]


def test_times_are_of_the_cells_that_are_shown() -> None:
    """What was run of a row since taken out of the file is kept, and counts nowhere."""
    cells = [of_features("ftfc7", "spp1", 50, "a", {"conv": 2.0, "fc": 1.0})]
    gone = of_features("gone", "spp1", 50, "b", {"conv": 98.0, "fc": 99.0})
    assert table(SPP, [*cells, gone]) == table(SPP, cells)
    assert "| conv time | 2 s |" in table(SPP, cells).replace(" |  |", " |")


def test_several_seeds_give_mean_and_deviation_and_say_what_lacks() -> None:
    why = {CellName("softmax", "", 3): ["svm.C was 1, is 2", "b", "c", "d"]}
    text = printed(Shown(GRIDS["positives"], SOFTMAX, why, "voc2007"), "md")
    assert lines_of(text)[2][-2:] == ["55.0 ± 1.4", "54.2"]
    assert lines_of(text)[3] == ["softmax*", "IoU ≥ 0.5", "IoU < 0.5", "50.9", "50.9"]
    assert text.split("\n\n")[1].splitlines() == [
        "svm: 2 of 3 seeds",
        "* softmax: stale: svm.C was 1, is 2; b; c; and 1 more",
        "softmax: 1 of 3 seeds",
    ]


@pytest.mark.parametrize(
    ("against", "lines"),
    [
        ("warp", [["60.0 ± 1.4", "50.0 ± 1.4"], ["+3.0 ± 1.4", "–"], ["-2.0", "0.0 ± 2.8"]]),
        ("p0", [["60.0 ± 1.4", "-10.0 ± 2.8"], ["63.0 ± 2.8", "–"], ["57.0", "-8.0"]]),
        ("warp,p0", [["60.0 ± 1.4", "-10.0 ± 2.8"], ["+3.0 ± 1.4", "–"], ["-2.0", "-10.0 ± 0.0"]]),
    ],
)
def test_differences_are_taken_seed_by_seed(against: str, lines: list[list[str]]) -> None:
    """Leave out of a difference's deviation what differs from seed to seed and not between cells; by hand."""
    scores = {
        ("warp", "p0"): {3: 59.0, 4: 61.0},
        ("square", "p0"): {3: 61.0, 4: 65.0},
        ("alone", "p0"): {3: 57.0},
        ("warp", "p16"): {3: 51.0, 4: 49.0},
        ("alone", "p16"): {3: 49.0, 4: 51.0},
    }
    runs = [done(*cell, score, {}, seed=seed) for cell, of in scores.items() for seed, score in of.items()]
    grid = replace(GRIDS["crops"], seeds=(3, 4))
    text = printed(Shown(grid, runs, {}, "voc2007", against=named_cell(grid, list(grid.rows), against)), "md")
    assert [line[1:] for line in lines_of(text)[2:5]] == lines
    assert f"of others than {against.replace(',', ', ')}: how much they are above it" in text


def test_differences_in_csv_have_every_digit() -> None:
    against = ("svm", None)
    text = printed(Shown(GRIDS["positives"], SOFTMAX, {}, "voc2007", against=against), "csv")
    svm, softmax = csv.DictReader(text.splitlines())
    assert float(svm["mAP"]) == pytest.approx(0.55, abs=1e-15)
    assert float(softmax["mAP"]) == pytest.approx(0.509 - 0.54, abs=1e-15)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wrap", "has no such row or column (did you mean 'warp'?)"),
        ("warp,p1", "has no such cell (did you mean 'p16'?)"),
        ("warp,", "has no such cell"),
        ("", "has no such row or column"),
    ],
)
def test_a_cell_that_is_not_there_is_named(text: str, message: str) -> None:
    with pytest.raises(ParamsError, match=re.escape(message)):
        named_cell(GRIDS["crops"], list(GRIDS["crops"].rows), text)
    assert named_cell(GRIDS["faster-table4"], ["rcnn", "joint"], "joint") == ("joint", None)


def test_each_class_has_a_column() -> None:
    text = printed(Shown(GRIDS["positives"], SOFTMAX, {}, "voc2007", per_class=True), "md")
    assert lines_of(text)[0] == ["", "positives", "negatives", "cat", "dog", "mAP (%)", "the paper"]
    assert lines_of(text)[2] == ["SVM", "objects", "IoU < 0.3", "55.0 ± 1.4", "–", "55.0 ± 1.4", "54.2"]
    assert lines_of(table(GRIDS["table2"], [done("fc7", "", 44.7, {})]))[2] == ["fc7", "44.7", "–", "44.7", "44.7"]


def test_the_median_is_of_the_classes_that_have_an_ap() -> None:
    one = done("a", "", 50, {}).model_copy(update={"ap": {"voc2007": {"b": 0.25, "c": 0.75, "d": None, "e": 0.125}}})
    (figure,) = figures_of(["median"], "voc2007", [one])
    assert (figure.heading, figure.text([one])) == ("median AP (%)", "25.0")
    assert figure.text([done("a", "", 50, {}).model_copy(update={"ap": {}})]) == "–"


def test_csv_has_every_digit_and_reads_back() -> None:
    why = {CellName("softmax", "", 3): ["a, b"]}
    text = printed(Shown(GRIDS["positives"], SOFTMAX, why, "voc2007"), "csv")
    svm, softmax = csv.DictReader(text.splitlines())
    assert (svm["row"], svm["runs"], svm["negatives"], svm["stale"]) == ("svm", "2", "IoU < 0.3", "")
    assert float(svm["mAP"]) == pytest.approx(0.55, abs=1e-15)
    assert float(svm["mAP, deviation"]) == pytest.approx(0.01 * 2**0.5, abs=1e-15)
    assert (softmax["mAP"], softmax["mAP, deviation"], softmax["stale"]) == ("0.509", "", "a, b")


def test_a_page_has_the_table_and_each_cells_spread_over_the_classes() -> None:
    """Figure 3: the mean of the seeds of each class first, then the quartiles over the classes; against numpy."""
    grid = replace(GRIDS["crops"], seeds=(3, 4))
    first, second = done("warp", "p0", 50.0, {}, seed=3), done("warp", "p0", 60.0, {}, seed=4)
    ap = [{"a": 0.1, "b": 0.5, "c": None, "d": 0.9}, {"a": 0.3, "b": 0.7, "c": None, "d": None}]
    pairs = zip((first, second), ap, strict=True)
    runs = [one.model_copy(update={"ap": {**one.ap, "voc2007": own}}) for one, own in pairs]
    html = printed(Shown(grid, runs, {}, "voc2007"), "html")
    assert html.startswith("<!DOCTYPE html>") and "55.0 ± 7.1" in html and "(appendix A)" in html
    means = np.array([0.2, 0.6, 0.9])  # c has none, d one run's
    expected = (means.mean(), *np.quantile(means, (0, 0.25, 0.5, 0.75, 1)))
    row = "".join(f"<td>{100 * value:.1f}</td>" for value in expected)
    assert f"<span>warp, p0</span></td>{row}" in html.replace(' class="number"', "")
    iou = first.model_copy(update={"mean_ap": {}, "ap": {}, "mean_iou": 0.5, "iou": {"background": 0.25, "cat": 0.75}})
    alone = replace(GRIDS["segmentation-table5"], seeds=(3,))
    html = printed(Shown(alone, [iou.model_copy(update={"row": "fc6", "column": "fg"})], {}, "voc2010"), "html")
    assert "How IoU spreads" in html and "<td>50.0</td><td>25.0</td><td>37.5</td>" in html.replace(
        ' class="number"', ""
    )
    recall = done("ss", "300", 0, {}).model_copy(update={"mean_ap": {}, "ap": {}, "recall": {"0.50": 1.0}})
    assert "spreads over" not in printed(Shown(GRIDS["faster-figure2"], [recall], {}, "voc2010"), "html")


def test_latex_is_a_tabular_with_its_signs_escaped() -> None:
    text = printed(Shown(GRIDS["positives"], SOFTMAX, {}, "voc2007"), "latex")
    head, columns, rule, *rows, end, first, _ = text.splitlines()
    assert (head, rule, end) == (r"\begin{tabular}{lllrr}", r"\hline", r"\end{tabular}")
    assert columns == r" & positives & negatives & mAP (\%) & the paper \\"
    assert rows[0] == r"SVM & objects & IoU $<$ 0.3 & 55.0 $\pm$ 1.4 & 54.2 \\" and first == "% svm: 2 of 3 seeds"
    assert text.count("&") == 4 * 3


def test_ilsvrcs_mean_and_median_are_shown_where_they_were_scored() -> None:
    grid = GRIDS["table4"]
    assert grid.protocol == "ilsvrc"
    plain = done("val1", "", 40.0, {})
    scored = done("ft1kbb", "", 40.0, {})
    scored = scored.model_copy(
        update={
            "mean_ap": {**scored.mean_ap, "ilsvrc": 0.3},
            "ap": {**scored.ap, "ilsvrc": {"a": 0.1, "b": 0.25, "c": 0.9, "d": None}},
        }
    )
    rows = lines_of(table(grid, [plain, scored], "ilsvrc"))
    assert rows[0][-3:] == ["mAP (%)", "median AP (%)", "the paper"]
    assert [row[-3:] for row in rows if row[0] in ("val1", "val1 + train 1k") and row[-3] != "–"] == [
        ["30.0", "25.0", "31.0, median 29.6; test 31.4, 30.3"]
    ]
    assert next(row for row in rows if row[0] == "val1")[-3:] == ["–", "–", "20.9, median 17.7"]
