"""The sections about what the detectors cost, and what sets their parameters and files apart."""

from collections.abc import Sequence

from cache.text import format_bytes
from stages.page.bars import Bar, grouped_bars
from stages.page.charts import palette
from stages.page.markup import Markup, join, section, table, tag
from stages.page.provenance import duration, parameter_rows

from .inputs import ComparisonData
from .measures import Comparison, Figures
from .scores import key, name_of

_NOT_SET = "(not set)"


def cost(comparison: Comparison) -> Markup:
    """Show seconds per image by part, and training time, memory and disk."""
    figures = comparison.figures
    text = (
        "Seconds that a new image takes. conv (convolutions), fc (fully connected layers), rest, and of a network "
        "with its own regions rpn, proposals (decoding and suppression), regions (their pooling and layers) and "
        "suppression: the median over images, of one thread. Other parts, named by their stage: its last run by the "
        "images it computed, all its workers together. So compare runs of one machine alone, with as much other work. "
        "–: not known, since a part was never measured here. Training: the last one of each stage, start included; "
        "weights that another detector had trained already count the seconds it took to fetch them."
    )
    rows = [
        [
            name_of(i, one.name),
            _seconds(one.cost["total_seconds_per_image"]),
            "–" if one.cost["training_seconds"] is None else duration(one.cost["training_seconds"]),
            "–" if one.cost["peak_mb"] is None else f"{one.cost['peak_mb']:,.0f} MiB",
            "–" if one.cost["disk_bytes"] is None else format_bytes(one.cost["disk_bytes"]),
        ]
        for i, one in enumerate(figures)
    ]
    header = ["detector", "seconds per image", "training", "peak memory", "objects on disk"]
    groups = _parts(figures)
    chart = [key(comparison), grouped_bars(groups, _seconds)] if groups else []
    return section("cost", "Time, memory, disk", tag("p", text, class_="note"), *chart, table(header, rows))


def _parts(figures: Sequence[Figures]) -> list[tuple[str, list[Bar]]]:
    """Group the seconds per image by part, each with the detectors that have it, and in all."""
    groups: dict[str, list[Bar]] = {}
    for i, one in enumerate(figures):
        for part, seconds in one.cost["seconds_per_image"].items():
            groups.setdefault(part, []).append(Bar(one.name, palette(i).style, seconds))
    totals = [
        Bar(one.name, palette(i).style, one.cost["total_seconds_per_image"])
        for i, one in enumerate(figures)
        if one.cost["seconds_per_image"]
    ]
    return [*groups.items(), ("all", totals)] if groups else []


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g} s" if value else "0 s"


def parameters(data: ComparisonData) -> Markup:
    """Show the parameters in which the detectors differ, and behind a fold those that all share."""
    each = [dict(parameter_rows(one.parameters)) for one in data.detectors]
    names = list(dict.fromkeys(name for values in each for name in values))
    differing = [name for name in names if len({values.get(name, _NOT_SET) for values in each}) > 1]
    shared = [name for name in names if name not in set(differing)]
    header = ["parameter", *(name_of(i, one.name) for i, one in enumerate(data.detectors))]
    apart = [[tag("code", name), *(tag("code", values.get(name, _NOT_SET)) for values in each)] for name in differing]
    common = [[tag("code", name), tag("code", each[0][name])] for name in shared]
    parts = []
    if len(each) > 1 and differing:
        parts.append(table(header, apart, text_columns=len(header)))
    elif len(each) > 1:
        parts.append(tag("p", "All detectors have the same parameters.", class_="note"))
    if common:
        title = "Parameters" if len(each) == 1 else f"{len(common)} parameters that all share"
        fold = table(["parameter", "value"], common, text_columns=2)
        parts.append(tag("details", tag("summary", title), fold))
    return section("parameters", "Parameters", *parts)


def digests(data: ComparisonData) -> Markup:
    """Show the sha256 of every file that the numbers were made from: pages with equal lists compare the same."""
    rows = [
        [name_of(i, one.name), tag("code", name), tag("code", digest)]
        for i, one in enumerate(data.detectors)
        for name, digest in one.digests.items()
    ]
    return section("digests", "Made from", join(table(["detector", "file", "sha256"], rows, text_columns=3)))
