"""Progress and messages on stderr: a live line on a terminal, an occasional plain line elsewhere."""

import sys
import threading
import time
from typing import TextIO

_REDRAW_S = 0.2  # a terminal line redraws at most five times a second
_LINE_S = 10.0  # a log gets one line in ten seconds


def format_seconds(seconds: float) -> str:
    """``75.2`` -> ``"1m15s"``; below a minute with one decimal."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"


class Reporter:
    """The :class:`stages.contract.Log` of one stage; safe to call from several threads.

    Progress of one loop starts with the first call and ends with ``done == total``; a smaller ``done`` or another
    ``unit`` than before starts a new one.
    """

    def __init__(self, stage: str, stream: TextIO | None = None) -> None:
        self._stage = stage
        self._stream = stream if stream is not None else sys.stderr
        self._terminal = self._stream.isatty()
        self._lock = threading.Lock()
        self._unit = ""
        self._first = self._last_done = 0
        self._begin = self._shown = 0.0
        self._open_line = False

    def info(self, message: str) -> None:
        """Print one message (several lines keep their prefix only on the first)."""
        with self._lock:
            self._print(f"{self._stage}: {message}")

    def warning(self, message: str) -> None:
        """Print one message marked as a warning."""
        self.info(f"warning: {message}")

    def progress(self, done: int, total: int, unit: str, note: str = "") -> None:
        """Show ``done`` of ``total`` with rate and time to go."""
        now = time.monotonic()
        with self._lock:
            if unit != self._unit or done < self._last_done:
                # The work already behind the first call took an unknown time: it does not count in the rate.
                self._unit, self._first, self._begin, self._shown = (
                    unit,
                    done,
                    now,
                    0.0 if self._terminal else now,
                )
            self._last_done = done
            finished = done >= total
            if not finished and now - self._shown < (_REDRAW_S if self._terminal else _LINE_S):
                return
            self._shown = now
            self._draw(self._text(done, total, unit, note, now - self._begin), finished)
            if finished:
                self._unit = ""

    def _text(self, done: int, total: int, unit: str, note: str, elapsed: float) -> str:
        rate = (done - self._first) / elapsed if elapsed > 0 else 0.0
        parts = [f"{self._stage}: {done}/{total} {unit}"]
        if rate > 0:
            parts.append(f"{rate:.3g} {unit}/s")
            parts.append(f"ETA {format_seconds((total - done) / rate)}" if done < total else format_seconds(elapsed))
        if note:
            parts.append(note)
        return ", ".join(parts)

    def _draw(self, text: str, finished: bool) -> None:
        if not self._terminal:
            self._print(text)
            return
        self._stream.write(f"\r\x1b[K{text}")
        if finished:
            self._stream.write("\n")
        self._open_line = not finished
        self._stream.flush()

    def _print(self, text: str) -> None:
        if self._open_line:
            self._stream.write("\n")
            self._open_line = False
        self._stream.write(text + "\n")
        self._stream.flush()
