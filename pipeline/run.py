"""Run one stage."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from . import timings
from .context import RunContext
from .graph import load_stage
from .progress import format_seconds


def run_stage(name: str, project: Path, params: Any) -> None:
    """Run stage ``name`` of the project folder with parsed parameters.

    The stage's former outputs stay until it has succeeded. Raises what the stage raises, and
    :class:`pipeline.errors.InterruptedRun` on Ctrl-C or SIGTERM.
    """
    stage = load_stage(name)
    context = RunContext(stage, project, params)
    begin = time.monotonic()
    timings.reset_peak()
    context.discard_partial()
    try:
        with _terminate_as_interrupt():
            stage.run(context)
        context.commit()
    finally:
        context.discard_partial()
    seconds = time.monotonic() - begin
    counts = {
        "computed": context.tally.computed,
        "reused": context.tally.reused,
        "regions": context.tally.regions,
    }
    timings.record(project, name, seconds, counts)
    context.log.info(f"done in {format_seconds(seconds)}, peak memory {timings.peak_rss_mb():.0f} MiB")


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM stops a run as Ctrl-C does: in order, with everything computed kept."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
