"""The sections about how good the detectors are: scores and their differences, classes, curves, mistakes."""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.page.bars import Bar, IntervalRow, dot_line, grouped_bars, interval_chart
from stages.page.box_plots import box_row, spread
from stages.page.charts import ChartAxis, Series, legend, line_chart, palette
from stages.page.markup import Markup, percent, section, signed_percent, table, tag
from stages.scoring.coco import RECALLS

from .inputs import ComparisonData
from .measures import HEADLINES, Comparison, Figures

_KINDS = (
    ("right", "right"),
    ("localisation", "poorly localised"),
    ("similar", "similar class"),
    ("other", "other class"),
    ("background", "background"),
)


def key(comparison: Comparison) -> Markup:
    """Name the detectors with the paint that each has in all charts."""
    return legend([(one.name, palette(i)) for i, one in enumerate(comparison.figures)])


def name_of(index: int, name: str) -> Markup:
    """Write a detector's name with a dot of its colour."""
    dot = tag("circle", cx=5, cy=5, r=4.5, class_=f"fill {palette(index).style}")
    return tag("span", tag("svg", dot, width=10, height=10, role="img"), " ", name, class_="name-of")


def best_in_bold(values: Sequence[float | None]) -> list[Markup]:
    """Write scores in percent, the highest in bold; more than one where the digits shown are equal."""
    shown = [percent(value) for value in values]
    known = [value for value in values if value is not None]
    best = percent(max(known)) if len(known) > 1 else None
    return [tag("b", text) if text == best else Markup(text) for text in shown]


def scores(data: ComparisonData, comparison: Comparison) -> Markup:
    """Show every mean with its interval, and each detector's difference to the first."""
    figures, protocol = comparison.figures, comparison.protocol
    columns = [best_in_bold([one.scores[part][what] for one in figures]) for part, what, _ in HEADLINES]
    plain = best_in_bold([one.scores["no_bbox"]["voc2010"]["mAP"] for one in figures])
    rows = [
        [
            name_of(i, one.name),
            one.kind,
            one.title,
            *(_with_range(columns[k][i], one.scores[part], what) for k, (part, what, _) in enumerate(HEADLINES)),
            plain[i],
        ]
        for i, one in enumerate(figures)
    ]
    header = ["detector", "kind", "made of", *(title for _, _, title in HEADLINES), "VOC 2010 without regression"]
    parts = [table(header, rows, text_columns=3)]
    if len(figures) > 1:
        parts.append(_differences(figures))
    return section("scores", "Scores", tag("p", _protocol_text(protocol, len(figures)), class_="note"), *parts)


def unscored(data: ComparisonData) -> Markup:
    """Say, in the place of scores, that no test image is annotated, and where the results are."""
    text = (
        f"No object of the {len(data.tested)} test images is annotated, so that nothing can be scored or compared in "
        "figures. Each detector's reports folder has its detections under results, in VOC's form and in COCO's."
    )
    return section("scores", "Not scored", tag("p", text))


def _protocol_text(protocol: Mapping[str, Any], n_detectors: int) -> str:
    text = (
        f"In percent, on the {protocol['images']} test images with {protocol['objects']} objects "
        f"({protocol['difficult']} difficult and {protocol['crowd']} crowd objects are ignored), with box regression. "
        f"VOC 2010: area under the precision-recall curve; VOC 2007: its mean at 11 recalls; both at IoU ≥ "
        f"{protocol['voc_iou']:g}. COCO AP: mean over IoU 0.5 to 0.95; AP50: at IoU 0.5. "
    )
    if protocol["n_bootstrap"]:
        text += (
            f"Small figures: where 95% of {protocol['n_bootstrap']} resamples of the test images put the mean; they do "
            "not cover what another training run would change. "
        )
        if n_detectors > 1:
            text += (
                "Differences are paired: the same resamples for all detectors. One whose interval leaves out 0 is more "
                "than the choice of test images."
            )
    return text


def _with_range(text: Markup, part: Mapping[str, Any], what: str, *, signed: bool = False) -> Markup:
    """Write a mean, and under it its interval where there is one."""
    if f"{what}_low" not in part:
        return text
    show = signed_percent if signed else percent
    low, high = show(part[f"{what}_low"]), show(part[f"{what}_high"])
    return Markup(text + tag("br") + tag("small", f"{low} to {high}"))


def _differences(figures: Sequence[Figures]) -> Markup:
    first = figures[0].name

    def row(i: int, one: Figures, part: Mapping[str, Any]) -> IntervalRow:
        values = (part.get(key) for key in ("mAP", "mAP_low", "mAP_high"))
        return IntervalRow(one.name, palette(i).style, *(None if v is None else 100 * v for v in values))

    means = [row(i, one, one.scores["voc2010"]) for i, one in enumerate(figures)]
    apart = [row(i, one, one.difference["voc2010"]) for i, one in enumerate(figures) if one.difference]
    charts = [
        interval_chart(means, ChartAxis("VOC 2010 mAP, %", None, None), "{:.1f}".format),
        interval_chart(apart, _around_zero(f"difference to {first}, points", apart), _signed_points),
    ]
    rows = [
        [
            name_of(i, one.name),
            *(
                _with_range(Markup(signed_percent(one.difference[part][what])), one.difference[part], what, signed=True)
                for part, what, _ in HEADLINES
            ),
        ]
        for i, one in enumerate(figures)
        if one.difference
    ]
    header = [f"less {first}", *(title for _, _, title in HEADLINES)]
    return tag(
        "div",
        tag("div", *(tag("div", chart) for chart in charts), class_="columns"),
        table(header, rows),
    )


def _around_zero(label: str, rows: Sequence[IntervalRow]) -> ChartAxis:
    """Make an axis on which no difference can be seen."""
    ends = [0.0, *(v for row in rows for v in (row.low, row.value, row.high) if v is not None)]
    return ChartAxis(label, min(ends), max(ends))


def _signed_points(value: float) -> str:
    return signed_percent(value / 100)


def classes(data: ComparisonData, comparison: Comparison) -> Markup:
    """Show the AP of each class by each detector."""
    figures = comparison.figures
    counts = dict(zip(data.classes, data.object_counts.tolist(), strict=True))
    ap = {name: [one.scores["voc2010"]["AP"][name] for one in figures] for name in data.classes}
    scored = [name for name in data.classes if counts[name]]
    shown = [name for name in data.shown_classes() if counts[name]]
    rows = [[name, str(counts[name]), _dots(ap[name]), *best_in_bold(ap[name])] for name in shown]
    rest = [name for name in scored if name not in set(shown)]
    if rest:
        means = [sum(ap[name][i] for name in rest) / len(rest) for i in range(len(figures))]
        total = str(sum(counts[name] for name in rest))
        rows.append([tag("i", f"mean of {len(rest)} more"), total, _dots(means), *best_in_bold(means)])
    overall = [one.scores["voc2010"]["mAP"] for one in figures]
    rows.append([tag("b", "mean"), str(sum(counts.values())), _dots(overall), *best_in_bold(overall)])
    header = ["class", "objects", "AP, 0 to 100", *(name_of(i, one.name) for i, one in enumerate(figures))]
    notes = ["VOC 2010 AP with box regression, in percent; the best of each row is bold."]
    if rest:
        notes.append(f"The {len(shown)} classes with most test objects; the others are summed up in one line.")
    absent = [name for name in data.classes if not counts[name]]
    if absent:
        some = ", ".join(absent[:20]) + (f" and {len(absent) - 20} more" if len(absent) > 20 else "")
        notes.append(f"No object that counts in the test split, so left out of the means: {some}.")
    return section(
        "classes", "Every class", tag("p", " ".join(notes), class_="note"), table(header, rows), _spreads(figures)
    )


def _spreads(figures: Sequence[Figures]) -> Markup:
    """Draw how each detector's AP spreads over the classes (R-CNN's figure 3)."""
    made = [
        box_row(one.name, palette(i).style, [*one.scores["voc2010"]["AP"].values()]) for i, one in enumerate(figures)
    ]
    heads = [(name_of(i, row.name), row) for i, row in enumerate(made) if row is not None]
    return tag("div", tag("h3", "Spread"), spread(heads, "detector"))


def _dots(values: Sequence[float | None]) -> Markup:
    """Draw each detector's AP as a dot on one line; of equal ones the first detector's is on top."""
    known = sorted((value, -i) for i, value in enumerate(values) if value is not None)
    return dot_line([(value, f"fill {palette(-i).style}") for value, i in known], "plain") if known else Markup("")


def precision_recall(data: ComparisonData, comparison: Comparison) -> Markup:
    """Draw a chart of the mean over classes and a small one per class, a line per detector."""
    figures = comparison.figures
    precision, recall = ChartAxis("precision", 0, 1), ChartAxis("recall", 0, 1)

    def series(name: str) -> list[Series]:
        lines = []
        for i, one in enumerate(figures):
            points, paint = one.precision.get(name, []), palette(i)
            lines.append(Series(one.name, RECALLS[: len(points)].tolist(), points, paint.style, paint.dashed))
        return lines[::-1]  # the first detector's on top

    if not figures[0].precision[""]:
        text = "No class has a test object that counts, so that there is no curve."
        return section("pr", "Precision and recall", tag("p", text, class_="note"))
    small = [
        tag(
            "figure",
            tag("figcaption", tag("b", name)),
            line_chart(series(name), recall, precision, width=260, height=200, label_width=0),
        )
        for name in data.shown_classes()
        if name in figures[0].precision
    ]
    text = (
        "The best precision at each recall or above, with box regression. A class's curve ends where no more objects "
        "are found; in the mean over classes it counts 0 from there on."
    )
    return section(
        "pr",
        "Precision and recall",
        tag("p", text, class_="note"),
        key(comparison),
        tag("h3", "Mean over classes"),
        line_chart(series(""), recall, precision, label_width=0),
        tag("h3", "Classes"),
        tag("div", *small, class_="grid-of-charts"),
    )


def mistakes(comparison: Comparison) -> Markup:
    """Count the kinds of mistakes among each detector's best detections, all classes together."""
    figures = comparison.figures
    totals = [{kind: sum(counts[kind] for counts in one.mistakes.values()) for kind, _ in _KINDS} for one in figures]
    groups = [
        (
            title,
            [
                Bar(one.name, palette(i).style, total[kind] / (sum(total.values()) or 1))
                for i, (one, total) in enumerate(zip(figures, totals, strict=True))
            ],
        )
        for kind, title in _KINDS
    ]
    text = (
        "Of the best-scored detections of each class, as many as it has objects, the percentage of each kind; a "
        "perfect detector has only right ones. Poorly localised: overlaps an object of the class by an IoU of at least "
        "0.1 but too little, or finds it a second time. Similar or other class: fires on an object of another class. "
        "Background: on nothing annotated."
    )
    header = ["detector", "detections", *(title for _, title in _KINDS)]
    rows = [
        [name_of(i, one.name), str(sum(total.values())), *(str(total[kind]) for kind, _ in _KINDS)]
        for i, (one, total) in enumerate(zip(figures, totals, strict=True))
    ]
    return section(
        "mistakes",
        "Kinds of mistakes",
        tag("p", text, class_="note"),
        key(comparison),
        grouped_bars(groups, percent),
        table(header, rows),
    )
