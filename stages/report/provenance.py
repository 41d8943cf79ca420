"""The section about the run itself: time and memory of each stage."""

from collections.abc import Mapping
from typing import Any

from stages.page.bars import share_bar
from stages.page.markup import Markup, section, table, tag
from stages.page.provenance import duration

from .inputs import PageData


def timings(data: PageData) -> Markup:
    """Show seconds and peak memory of each stage's last run."""
    if not data.timings:
        text = "No times are known: they are written by `rcnn run` and `dvc repro`, to reports/timings.json."
        return section("timings", "Time and memory", tag("p", text, class_="note"))
    longest = max(float(part.get("seconds", 0)) for part in data.timings.values()) or 1.0
    rows = [
        [
            stage,
            share_bar(float(part.get("seconds", 0)) / longest),
            duration(float(part.get("seconds", 0))),
            _count(part, "peak_rss_mb"),
            _count(part, "computed"),
            _count(part, "reused"),
            str(part.get("finished", "")),
        ]
        for stage, part in data.timings.items()
    ]
    total = sum(float(part.get("seconds", 0)) for part in data.timings.values())
    rows.append([tag("b", "all"), Markup(""), duration(total), "", "", "", ""])
    header = ["stage", "", "time", "peak memory, MiB", "objects computed", "reused", "finished (UTC)"]
    text = "Each stage's last run that computed something; this page's own time is not in it."
    if data.features_cost:
        parts = ", ".join(f"{name} {seconds:.3g} s" for name, seconds in data.features_cost.items())
        text += f" Features of one image: {parts}; in all {sum(data.features_cost.values()):.3g} s of one thread."
    return section("timings", "Time and memory", tag("p", text, class_="note"), table(header, rows))


def _count(part: Mapping[str, Any], key: str) -> str:
    return f"{part[key]:,.0f}" if isinstance(part.get(key), int | float) else ""
