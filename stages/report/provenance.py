"""The sections about the run itself: time and memory of each stage, and the environments that computed."""

from collections.abc import Mapping, Sequence
from typing import Any

from cache.environment import NAMES
from cache.listing import Environments
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


def environments(data: PageData) -> Markup:
    """Which versions and devices computed the objects that led to the detections; nothing where that is not asked."""
    if not data.environments:
        return Markup("")
    rows = []
    for stage, found in data.environments.items():
        for environment, count in found.counts.items():
            values = environment.as_json() if environment else {}
            share = f"{count:,}" if found.looked == found.objects else f"{count:,} of {found.looked:,} looked at"
            rows.append([stage, *(values.get(name, "–") for name in NAMES), share])
    text = _how_many(list(data.environments.values()))
    shown = table(["stage", *NAMES, "objects"], rows, text_columns=1 + len(NAMES))
    return section("environments", "Environments", tag("p", text, class_="note"), shown)


def _how_many(looked: Sequence[Environments]) -> str:
    """Whether one environment computed everything; stages that compute on another device than others are no other."""
    named = [[one for one in found.counts if one is not None] for found in looked]
    versions = {tuple(part for part in one.parts if part[0] != "device") for stage in named for one in stage}
    text = "One environment computed them. " if versions else ""
    if len(versions) > 1 or any(len(stage) > 1 for stage in named):
        text = "Several environments computed them: under the same parameters their bits may differ. "
    if any(None in found.counts for found in looked):
        text += "A dash is not recorded: computed before objects named their environment. "
    sampled = any(found.looked < found.objects for found in looked)
    return text + ("Of many objects an even sample was looked at." if sampled else "")
