"""Peak memory is a stage's own."""

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.timings import peak_rss_mb, read_timings, reset_peak


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="this system cannot start the peak anew")
def test_a_file_that_is_not_ours_is_as_none(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    for text in ("[" * 100_000, "[]", '{"svm": 3}', "\0"):
        (tmp_path / "reports" / "timings.json").write_text(text)
        assert read_timings(tmp_path) == {}


def test_the_peak_starts_anew() -> None:
    block = np.ones(300 << 17)  # 300 MiB
    high = peak_rss_mb()
    assert high > 300
    del block
    assert peak_rss_mb() == pytest.approx(high, abs=20)
    reset_peak()
    assert peak_rss_mb() < high - 200
