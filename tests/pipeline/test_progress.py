"""Progress: plain occasional lines off a terminal, a live line on one."""

import io

import pytest

from pipeline.progress import Reporter, format_seconds


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0s"), (59.4, "59.4s"), (75.2, "1m15s"), (3660, "1h01m")])
def test_format_seconds(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_a_log_gets_few_whole_lines() -> None:
    stream = io.StringIO()
    reporter = Reporter("svm", stream)
    for done in range(1001):
        reporter.progress(done, 1000, "images")
    assert len(stream.getvalue().splitlines()) == 1
    assert stream.getvalue().startswith("svm: 1000/1000 images")
    assert "\r" not in stream.getvalue()


def test_rate_and_eta(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 120.0])
    monkeypatch.setattr("pipeline.progress.time.monotonic", lambda: next(clock))
    stream = io.StringIO()
    reporter = Reporter("features", stream)
    reporter.progress(0, 100, "images")
    reporter.progress(40, 100, "images", "80 regions")
    assert stream.getvalue() == "features: 40/100 images, 2 images/s, ETA 30.0s, 80 regions\n"


def test_a_terminal_line_is_closed_before_a_message() -> None:
    stream = Terminal()
    reporter = Reporter("x", stream)
    reporter.progress(1, 10, "images")
    reporter.info("hello")
    assert stream.getvalue().endswith("\nx: hello\n")
