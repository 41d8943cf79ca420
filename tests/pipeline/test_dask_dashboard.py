"""The line that says where Dask's dashboard is, or why there is none."""

import io
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import pytest
from waiting import HANG_S

from pipeline.dask import cluster as dask_cluster
from pipeline.dask.cluster import connected
from pipeline.progress import Reporter


def connect(said: io.StringIO) -> Any:
    execution = SimpleNamespace(scheduler=None, workers=1, device="cpu")
    return connected(execution, on_device=False, n_tasks=1, log=Reporter("features", said))


def test_the_link_is_of_a_page_that_shows_something() -> None:
    said = io.StringIO()
    with connect(said):
        line, link = said.getvalue().rstrip("\n").split(" dashboard ")
        assert line == "features: dask: 1 workers, 1 threads;"
        with urlopen(link, timeout=HANG_S) as page:
            assert page.status == 200
            text = page.read().decode()
    assert "Task Stream" in text
    assert "bokeh.min.js" in text


def test_without_bokeh_the_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_cluster, "_BOKEH", "bokeh_of_nobody")
    said = io.StringIO()
    with connect(said):
        pass
    assert said.getvalue() == (
        "features: dask: 1 workers, 1 threads; no dashboard: it needs bokeh where the scheduler runs "
        "(pip install 'rcnn[dashboard]')\n"
    )
