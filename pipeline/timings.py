"""Seconds, peak memory and counts of each node's last run, in ``timings.json`` of its detector's reports.

Times differ from run to run, so the file is no DVC output: nothing is computed from it, it is only shown.
"""

import json
import resource
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cache import atomic_write
from cache.cores import usable_cores

from .detectors import Layout

FILE = "timings.json"  # in a detector's reports
_RESULTS = 100  # whose seconds per image are kept


def reset_peak() -> None:
    """Start :func:`peak_rss_mb` anew, so that a stage does not inherit the peak of one before; Linux only."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_rss_mb() -> float:
    """Largest resident set of this process, in MiB, since :func:`reset_peak` where there is that, else so far."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) / (1024 * 1024 if sys.platform == "darwin" else 1024)


def read_timings(layout: Layout) -> dict[str, dict[str, Any]]:
    """What is known of each stage's last run; empty where the file is absent or not ours."""
    try:
        found = json.loads((layout.reports / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    timings = {k: v for k, v in found.items() if isinstance(v, dict)} if isinstance(found, dict) else {}
    for entry in timings.values():
        if "per_image" in entry:
            entry["per_image"] = _well_formed(entry["per_image"])
    return timings


def record(
    layout: Layout,
    node: str,
    seconds: float,
    counts: Mapping[str, int],
    per_image: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
) -> None:
    """Add one stage's run. A run that computed no object keeps the figures of the last one that did.

    ``per_image``: seconds of one image by part of the work, by the digest of the artifact manifest that was made. Those
    of the last results stay, so that what a result cost is known when another run finds it in the store.
    """
    timings = read_timings(layout)
    last = timings.get(node, {})
    entry: dict[str, Any] = {
        "seconds": round(seconds, 3),
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpus": usable_cores(),
        **counts,
    }
    if counts.get("reused") and not counts.get("computed") and last.get("computed"):
        last["reused"] = counts["reused"]
        entry = last
    if costs := _costs(last, per_image):
        entry["per_image"] = costs
    timings[node] = entry
    layout.reports.mkdir(parents=True, exist_ok=True)
    atomic_write(layout.reports / FILE, (json.dumps(timings, indent=2, sort_keys=True) + "\n").encode())


def _costs(last: Mapping[str, Any], per_image: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Seconds per image by result, the newest results'."""
    costs = dict(last.get("per_image", {}))
    for digest, parts in per_image.items():
        costs[digest] = {part: round(value, 6) for part, value in parts.items()} | {"measured": time.time()}
    newest = sorted(costs, key=lambda digest: costs[digest]["measured"])[-_RESULTS:]
    return {digest: costs[digest] for digest in newest}


def _well_formed(costs: object) -> dict[str, dict[str, float]]:
    """What :func:`_costs` may have written."""
    entries = costs.items() if isinstance(costs, dict) else ()
    parts = {digest: entry for digest, entry in entries if isinstance(entry, dict) and "measured" in entry}
    return {digest: part for digest, part in parts.items() if all(type(value) is float for value in part.values())}
