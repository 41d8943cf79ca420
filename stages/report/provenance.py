"""The sections about the run itself: seconds per stage, environments, parameters, and digests."""

from collections.abc import Mapping, Sequence
from typing import Any

from cache.environment import NAMES
from cache.listing import Environments
from stages.page.markup import Markup, section, table, tag

from .inputs import PageData


def timings(data: PageData) -> Markup:
    """Seconds and peak memory of each stage's last run."""
    if not data.timings:
        text = "No times are known: they are written by `rcnn run` and `dvc repro`, to reports/timings.json."
        return section("timings", "Time and memory", tag("p", text, class_="note"))
    longest = max(float(part.get("seconds", 0)) for part in data.timings.values()) or 1.0
    rows = [
        [
            stage,
            _bar(float(part.get("seconds", 0)) / longest),
            _duration(float(part.get("seconds", 0))),
            _count(part, "peak_rss_mb"),
            _count(part, "computed"),
            _count(part, "reused"),
            str(part.get("finished", "")),
        ]
        for stage, part in data.timings.items()
    ]
    total = sum(float(part.get("seconds", 0)) for part in data.timings.values())
    rows.append([tag("b", "all"), Markup(""), _duration(total), "", "", "", ""])
    header = ["stage", "", "time", "peak memory, MiB", "objects computed", "reused", "finished (UTC)"]
    text = "Each stage's last run that computed something; this page's own time is not in it."
    if data.features_cost:
        parts = ", ".join(f"{name} {seconds:.3g} s" for name, seconds in data.features_cost.items())
        text += f" Features of one image: {parts}; in all {sum(data.features_cost.values()):.3g} s of one thread."
    return section("timings", "Time and memory", tag("p", text, class_="note"), table(header, rows))


def _bar(part: float) -> Markup:
    rect = tag("rect", x=0, y=2, width=max(1.0, 118 * part), height=10, class_="fill c0")
    return tag("svg", rect, viewBox="0 0 120 14", width=120, height=14, role="img")


def _count(part: Mapping[str, Any], key: str) -> str:
    return f"{part[key]:,.0f}" if isinstance(part.get(key), int | float) else ""


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


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


def parameters(data: PageData) -> Markup:
    """Every parameter that made the detector, by group."""
    rows = []
    for group, value in data.parameters.items():
        if isinstance(value, Mapping):
            rows += [[tag("code", f"{group}.{key}"), tag("code", _value(one))] for key, one in value.items()]
        else:
            rows.append([tag("code", group), tag("code", _value(value))])
    return section("parameters", "Parameters", table(["parameter", "value"], rows, text_columns=2))


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    return "–" if value is None else str(value)


def digests(data: PageData) -> Markup:
    """sha256 of every file that the page was made from: two pages with equal lists show the same detector."""
    rows = [[tag("code", name), tag("code", digest)] for name, digest in data.digests.items()]
    return section("digests", "Made from", table(["file", "sha256"], rows, text_columns=2))
