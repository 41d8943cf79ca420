"""Peak memory is a stage's own."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.context import RunContext
from pipeline.detectors import Layout
from pipeline.params import parse_params
from pipeline.timings import peak_rss_mb, read_timings, record, reset_peak
from stages.graph import CLASSIFICATION, SEGMENTATION, root_nodes


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="this system cannot start the peak anew")
def test_a_file_that_is_not_ours_is_as_none(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    for text in ("[" * 100_000, "[]", '{"svm": 3}', "\0"):
        (tmp_path / "reports" / "timings.json").write_text(text)
        assert read_timings(Layout(tmp_path)) == {}


def test_the_peak_starts_anew() -> None:
    block = np.ones(300 << 17)  # 300 MiB
    high = peak_rss_mb()
    assert high > 300
    del block
    assert peak_rss_mb() == pytest.approx(high, abs=20)
    reset_peak()
    assert peak_rss_mb() < high - 200


def test_what_a_result_cost_stays_when_it_is_found_again(tmp_path: Path) -> None:
    def costs() -> dict[str, dict[str, float]]:
        found = read_timings(Layout(tmp_path))["features"]["per_image"]
        return {digest: {k: v for k, v in parts.items() if k != "measured"} for digest, parts in found.items()}

    warp, spp = {"conv": 31.0, "fc": 1.5}, {"conv": 0.17}
    record(Layout(tmp_path), "features", 60, {"computed": 2, "reused": 0}, {"a": warp})
    record(Layout(tmp_path), "features", 1, {"computed": 2, "reused": 0}, {"b": spp})
    record(Layout(tmp_path), "features", 1, {"computed": 0, "reused": 2})
    assert costs() == {"a": warp, "b": spp}
    assert read_timings(Layout(tmp_path))["features"]["computed"] == 2
    record(Layout(tmp_path), "features", 1, {"computed": 1, "reused": 1}, {"a": spp})
    assert costs() == {"a": spp, "b": spp}
    for i in range(120):
        record(Layout(tmp_path), "features", 1, {"computed": 1}, {f"n{i}": spp})
    assert list(costs())[-1] and len(costs()) == 100 and "n119" in costs() and "a" not in costs()
    record(Layout(tmp_path), "svm", 1, {"computed": 0})
    assert "per_image" not in read_timings(Layout(tmp_path))["svm"]


@pytest.mark.parametrize("dataset", ["scenes", "mine"])
def test_a_stage_is_told_the_times_of_those_that_led_to_it_in_their_order(tmp_path: Path, dataset: str) -> None:
    nodes = root_nodes()
    names = [name for name in nodes if name not in {one.name for one in (*CLASSIFICATION, *SEGMENTATION)}]
    for stage in ("classify", "another's", *reversed(names)):
        if stage != "svm":
            record(Layout(tmp_path), stage, 1, {"computed": 1})
    context = RunContext(nodes["report"], Layout(tmp_path), parse_params({"dataset": dataset}), nodes)
    expected = [name for name in names if name not in ("svm", "report")]
    assert list(context.timings()) == (expected if dataset == "scenes" else expected[1:])


@pytest.mark.parametrize("known", [3, [], {"a": 3}, {"a": {"conv": 1}}])
def test_costs_that_are_not_ours_do_no_harm(tmp_path: Path, known: object) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "timings.json").write_text(json.dumps({"features": {"per_image": known}}))
    record(Layout(tmp_path), "features", 1, {"computed": 1}, {"b": {"conv": 0.5}})
    assert read_timings(Layout(tmp_path))["features"]["per_image"]["b"]["conv"] == 0.5
