"""Peak memory is a stage's own."""

import os

import numpy as np
import pytest

from pipeline.timings import peak_rss_mb, reset_peak


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="this system cannot start the peak anew")
def test_the_peak_starts_anew() -> None:
    block = np.ones(300 << 17)  # 300 MiB
    high = peak_rss_mb()
    assert high > 300
    del block
    assert peak_rss_mb() == pytest.approx(high, abs=20)
    reset_peak()
    assert peak_rss_mb() < high - 200
