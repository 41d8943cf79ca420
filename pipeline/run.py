"""Run one node of a detector."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from cache import FULL, StoreError, StoreFullError
from pipeline import timings
from stages.contract import Node
from stages.graph import HEAD

from .context import RunContext
from .detectors import Layout
from .graph import node_named, nodes_of
from .leftovers import alone
from .mending import Mending
from .params import Params
from .progress import format_seconds


def run_node(name: str, layout: Layout, params: Params) -> None:
    """Run node ``name`` of a detector with parsed parameters; see :func:`run_placed`."""
    node = node_named(name, nodes_of(layout, params))
    # what all detectors share is the root's
    run_placed(node, Layout(layout.project) if node.name in {one.name for one in HEAD} else layout, params)


def run_placed(node: Node, layout: Layout, params: Params) -> None:
    """Run a node of a detector with parsed parameters.

    The node's former outputs stay until it has succeeded. Objects that it meets damaged or finds gone are computed
    again (see ``mending``). Raises what the stage raises, and InterruptedRun on Ctrl-C or SIGTERM.
    """
    context, mending = RunContext(node, layout, params, nodes_of(layout, params)), Mending(params)
    begin = time.monotonic()
    timings.reset_peak()
    with alone(layout, node.name, context.log):
        context.discard_partial()
        try:
            with _terminate_as_interrupt(), _full_disk_named(node.name, layout.project):
                mending.run(context)
            with _full_disk_named(node.name, layout.project):
                context.commit()
        finally:
            context.discard_partial()
    _record(context, layout, time.monotonic() - begin - mending.seconds)


def _record(context: RunContext, layout: Layout, seconds: float) -> None:
    """Write down what the run took, and say so."""
    counts = {
        "computed": context.tally.computed,
        "reused": context.tally.reused,
        "regions": context.tally.regions,
    }
    costs = {}
    if context.published and (parts := context.tally.per_image):
        costs[context.published] = parts
        said = ", ".join(f"{part} {value:.3g}" for part, value in parts.items())
        context.log.info(f"seconds per image: {said}, total {sum(parts.values()):.3g}")
    try:
        timings.record(layout, context.node.name, seconds, counts, costs)
    except (StoreError, OSError) as error:  # the stage is through: DVC must not be told that it failed
        context.log.warning(f"its time is not in {layout.reports / timings.FILE}: {error}")
    context.log.info(f"done in {format_seconds(seconds)}, peak memory {timings.peak_rss_mb():.0f} MiB")


@contextmanager
def _full_disk_named(stage: str, project: Path) -> Iterator[None]:
    """The operating system names no file where a write fails: say whose it was and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise StoreFullError(
            f"{project.resolve()}: {error.strerror} while writing the results of {stage}; nothing already computed is "
            "lost: free some space or raise the limit on file sizes, then run it again"
        ) from error


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
