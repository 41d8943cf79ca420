"""The sections about how good the detector is: scores, curves, mistakes, proposals."""

from collections.abc import Mapping
from typing import Any

from stages.page.bars import dot_line, stacked_bars
from stages.page.charts import ChartAxis, Series, line_chart
from stages.page.markup import Markup, percent, section, signed_percent, table, tag, tile
from stages.scoring.metrics import duplicates_line

from .inputs import PageData

_KINDS = (
    ("right", "right", "c0"),
    ("poorly localised or twice", "localisation", "c1"),
    ("similar class", "similar", "c2"),
    ("other class", "other", "c3"),
    ("background", "background", "c4"),
)


def headline(data: PageData) -> Markup:
    """Show the scores at a glance, and the protocol they were taken by."""
    metrics, protocol = data.metrics, data.metrics["protocol"]
    voc, plain, gain = metrics["voc2010"], metrics["no_bbox"]["voc2010"], metrics["bbox_gain"]["voc2010"]
    tiles = [
        tile("mAP with box regression", percent(voc["mAP"]), _range(voc)),
        tile("mAP without", percent(plain["mAP"]), _range(plain)),
        tile("gain by regression", signed_percent(gain["mAP"]), _range(gain, signed=True)),
        tile("COCO AP", percent(metrics["coco"]["AP"]), f"AP50 {percent(metrics['coco']['AP50'])}"),
        tile(
            "objects that proposals cover",
            percent(metrics["proposals"]["recall_50"]),
            f"IoU ≥ 0.5; {metrics['proposals']['per_image'] or 0:.0f} proposals per image",
        ),
    ]
    if "ilsvrc" in metrics:
        both = f"median {percent(metrics['ilsvrc']['median'])}"
        tiles.append(tile("mean AP by ILSVRC's rules", percent(metrics["ilsvrc"]["mAP"]), both))
    text = (
        f"All figures in percent, on the {protocol['images']} test images with {protocol['objects']} objects "
        f"({protocol['difficult']} difficult and {protocol['crowd']} crowd objects are ignored). mAP: mean over "
        f"classes of the area under the precision-recall curve (VOC 2010), at IoU ≥ {protocol['voc_iou']:g}. "
        "COCO AP: mean over IoU 0.5 to 0.95."
    )
    if "mAP_low" in voc:
        text += (
            f" Ranges: where 95% of {protocol['n_bootstrap']} resamples of the test images put the figure; "
            "they do not cover what another training run would change."
        )
    if not data.regressed:
        text += " Box regression was off in this run: with and without are the same."
    if both := duplicates_line(metrics):
        text += f" {both}"
    return section("scores", "Scores", tag("div", *tiles, class_="tiles"), tag("p", text, class_="note"))


def unscored(data: PageData) -> Markup:
    """Say, in the place of scores, that no test image is annotated, and where the results are."""
    text = (
        f"No object of the {len(data.tested)} test images is annotated, so that nothing can be scored. The folder "
        "results beside this page has all detections, for whoever keeps the annotations: comp4_det_test_CLASS.txt as "
        "VOC's server takes them, coco_bbox.json as COCO's does."
    )
    return section("scores", "Not scored", tag("p", text))


def _range(part: Mapping[str, Any], signed: bool = False) -> str:
    if "mAP_low" not in part:
        return ""
    show = signed_percent if signed else percent
    return f"{show(part['mAP_low'])} to {show(part['mAP_high'])}"


def class_table(data: PageData) -> Markup:
    """Show the scores of every class with and without regression."""
    metrics, plain = data.metrics, data.metrics["no_bbox"]
    counts = _object_counts(data)
    rows = [
        [
            name,
            str(counts[name]),
            _dumbbell(plain["voc2010"]["AP"][name], ap),
            percent(ap),
            percent(plain["voc2010"]["AP"][name]),
            percent(metrics["voc2007"]["AP"][name]),
            percent(plain["voc2007"]["AP"][name]),
            percent(metrics["coco"]["AP_class"][name]),
            percent(plain["coco"]["AP_class"][name]),
        ]
        for name, ap in metrics["voc2010"]["AP"].items()
        if ap is not None
    ]
    means = [
        percent(m[key][what])
        for key, what in (("voc2010", "mAP"), ("voc2007", "mAP"), ("coco", "AP"))
        for m in (metrics, plain)
    ]
    overall = _dumbbell(plain["voc2010"]["mAP"], metrics["voc2010"]["mAP"])
    rows.append([tag("b", "mean"), str(sum(counts.values())), overall, *means])
    header = [
        "class",
        "objects",
        "AP: ○ without, ● with regression",
        "VOC 2010",
        "without",
        "VOC 2007",
        "without",
        "COCO",
        "without",
    ]
    absent = [name for name, ap in metrics["voc2010"]["AP"].items() if ap is None]
    note = f"No object that counts in the test split, so left out of the means: {', '.join(absent)}." if absent else ""
    return section("classes", "Every class", table(header, rows), tag("p", note, class_="note") if note else Markup(""))


def _object_counts(data: PageData) -> dict[str, int]:
    counts = dict.fromkeys(data.classes, 0)
    for record in data.tested:
        for label, out in zip(record.labels.tolist(), (record.difficult | record.crowd).tolist(), strict=True):
            counts[data.classes[label]] += not out
    return counts


def _dumbbell(before: float | None, after: float | None) -> Markup:
    """Draw AP without (open) and with regression (full) on a line from 0 to 100."""
    if before is None or after is None:
        return Markup("")
    return dot_line([(before, "ring c0"), (after, "fill c0")], "c0")


def precision_recall(data: PageData) -> Markup:
    """Draw one small chart per class."""
    charts = []
    for name in data.shown_classes():
        series = []
        for regression, title, style in (("no_bbox", "without", "plain"), ("bbox", "with", "c0")):
            points = [r for r in data.pr if r["class"] == name and r["regression"] == regression]
            xs, ys = [float(r["recall"]) for r in points], [float(r["precision"]) for r in points]
            if points:
                xs, ys = [0.0, *xs], [ys[0], *ys]
            series.append(Series(f"{title} box regression", xs, ys, style, dashed=regression == "no_bbox"))
        ap = percent(data.metrics["voc2010"]["AP"][name])
        chart = line_chart(
            series, ChartAxis("recall", 0, 1), ChartAxis("precision", 0, 1), width=260, height=200, label_width=0
        )
        charts.append(tag("figure", tag("figcaption", tag("b", name), f" AP {ap}"), chart))
    legend = tag(
        "p",
        tag("span", "━ ", class_="text c0"),
        "with box regression, ",
        tag("span", "┅ ", class_="text plain"),
        "without. Each point is one more object found, best score first; a curve that ends early stands for objects "
        "never found.",
        class_="note",
    )
    return section("pr", "Precision and recall", legend, tag("div", *charts, class_="grid-of-charts"), _left_out(data))


def _left_out(data: PageData) -> Markup:
    n, shown = len(data.classes), len(data.shown_classes())
    if n == shown:
        return Markup("")
    return tag("p", f"The {shown} classes with most test objects; {n - shown} more are in the table.", class_="note")


def mistakes(data: PageData) -> Markup:
    """Count what the best detections of each class are, right or wrong, by kind of mistake."""
    rows = [r for r in data.errors if float(r["multiple"]) == 1.0]
    kinds = [(title, style) for title, _, style in _KINDS]

    def values(row: Mapping[str, str]) -> list[float]:
        return [float(row[column]) for _, column, _ in _KINDS]

    totals = []
    for regression, title in (("no_bbox", "all, without regression"), ("bbox", "all, with regression")):
        parts = [values(r) for r in rows if r["regression"] == regression]
        totals.append((title, [sum(column) for column in zip(*parts, strict=True)] or [0.0] * len(_KINDS)))
    shown = set(data.shown_classes())
    classes = [(r["class"], values(r)) for r in rows if r["regression"] == "bbox" and r["class"] in shown]
    text = (
        "The best-scored detections of each class, as many as it has objects: a perfect detector would be all blue. "
        "Poorly localised: overlaps an object of the class by an IoU of at least 0.1 but too little, or finds it a "
        "second time. "
        "Similar or other class: fires on an object of another class. Background: on nothing annotated."
    )
    return section(
        "mistakes", "Kinds of mistakes", tag("p", text, class_="note"), stacked_bars([*totals, *classes], kinds)
    )


def proposals(data: PageData) -> Markup:
    """Show how many objects the proposals cover, by the IoU asked for."""
    by_class: dict[str, list[tuple[float, float]]] = {}
    for row in data.recall_iou:
        by_class.setdefault(row["class"], []).append((float(row["iou"]), float(row["recall"])))
    overall = by_class.pop("", [])
    series = [Series(name, *_columns(points), style="muted") for name, points in by_class.items()]
    series.append(Series("all objects", *_columns(overall), style="c0"))
    chart = line_chart(series, ChartAxis("IoU asked for", 0.5, 1), ChartAxis("recall", 0, 1))
    summary = data.metrics["proposals"]
    rows = [
        [tag("b", "all"), *_cells(summary)],
        *([name, *_cells(part)] for name, part in summary["class"].items() if part["recall_50"] is not None),
    ]
    text = (
        "The part of the test objects that some proposal covers at least that well; no detection can be better than "
        "its proposal before regression. Grey: single classes."
    )
    side = table(["class", "recall at 0.5", "recall at 0.7", "mean best overlap"], rows)
    return section(
        "proposals",
        "Region proposals",
        tag("p", text, class_="note"),
        tag("div", tag("div", chart), side, class_="columns"),
    )


def _columns(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _cells(part: Mapping[str, Any]) -> list[str]:
    return [percent(part[key]) for key in ("recall_50", "recall_70", "mean_best_overlap")]
