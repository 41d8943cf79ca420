"""The section about the detectors' regions, whatever comes after: recall by the IoU asked for and by their number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.page.charts import ChartAxis, Paint, Series, legend, line_chart, palette
from stages.page.markup import Markup, percent, section, table, tag

from .measures import Comparison, Figures

_RECALLS = (("recall_50", "0.5"), ("recall_70", "0.7"))


@dataclass(frozen=True)
class _Regions:
    """Regions that one detector has or several share: recall as in :func:`.measures.region_recall`."""

    names: str
    paint: Paint
    recall: Mapping[str, Any]


def regions(comparison: Comparison) -> Markup:
    """Show how many test objects each detector's regions cover."""
    groups = _groups(comparison.figures)
    lacking = [one.name for one in comparison.figures if one.regions is None]
    if not groups:
        text = "No detector has regions that come before its detections."
        return section("regions", "Regions", tag("p", text, class_="note"))
    text = (
        "The part of the test objects that some region covers at least that well, before regression: by all regions of "
        "an image, and by its best ones. Detectors of the same regions share a line."
        + (f" Without regions: {', '.join(lacking)}." if lacking else "")
    )
    numbers = list(groups[0].recall["recall_number"])
    axis = ChartAxis("best regions per image", ticks=[(k, number) for k, number in enumerate(numbers)])
    charts = [_chart(groups, "recall_iou", ChartAxis("IoU asked for, all regions", 0.5, 1), None)]
    charts += [_chart(groups, "recall_number", axis, at) for at, _ in _RECALLS]
    return section(
        "regions",
        "Regions",
        tag("p", text, class_="note"),
        legend([(group.names, group.paint) for group in groups]),
        tag("div", *charts, class_="three"),
        _table(groups, numbers),
    )


def _groups(figures: Sequence[Figures]) -> list[_Regions]:
    """Put detectors of the same regions together, in the first one's paint."""
    found = []
    for i, one in enumerate(figures):
        if one.regions is not None and one.same_regions == one.name:
            names = [other.name for other in figures if other.regions and other.same_regions == one.name]
            found.append(_Regions(", ".join(names), palette(i), one.regions))
    return found


def _chart(groups: Sequence[_Regions], what: str, axis: ChartAxis, at: str | None) -> Markup:
    """Draw recall ``what``, at the IoU of ``at`` where it is by number."""
    series = []
    for group in groups[::-1]:  # the first detector's on top
        values = group.recall[what].values() if at is None else [one[at] for one in group.recall[what].values()]
        xs = [float(step) for step in group.recall[what]] if at is None else range(len(group.recall[what]))
        points = [(x, value) for x, value in zip(xs, values, strict=True) if value is not None]
        paint = group.paint
        series.append(Series(group.names, [x for x, _ in points], [y for _, y in points], paint.style, paint.dashed))
    label = "recall" if at is None else f"recall at IoU {dict(_RECALLS)[at]}"
    chart = line_chart(series, axis, ChartAxis(label, 0, 1), width=390, height=260, label_width=0)
    return tag("div", chart)


def _table(groups: Sequence[_Regions], numbers: Sequence[str]) -> Markup:
    rows = []
    for group in groups:
        for at, iou in _RECALLS:
            by_number = group.recall["recall_number"]
            about = group.names, _number(group.recall["per_image"]), percent(group.recall["mean_best_overlap"])
            cells = about if iou == "0.5" else ("", "", "")
            rows.append([*cells, iou, *(percent(by_number[number][at]) for number in numbers)])
    header = ["detector", "regions per image", "mean best overlap", "IoU", *numbers]
    return table(header, rows)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
