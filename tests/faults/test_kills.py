"""The short form of kill.py: a few stages of a tiny project killed once each, at a random moment."""

import json
import random
from pathlib import Path

import kill
import pytest
from tiny_project import forget, results

STAGES = ("scenes", "proposals", "finetune", "features", "detect")
START_S = 1.0


def test_killed_stages_go_on_and_end_with_the_same_bits(project: Path, undisturbed: Path) -> None:
    timings = json.loads((undisturbed / "reports/timings.json").read_text())
    report, rng = kill.Report(), random.Random(0)
    driver = kill.Driver(project)
    for stage in STAGES:
        forget(project, stage)
        kill.killed_stage(driver, stage, 1, START_S + timings[stage]["seconds"], rng, report)
    assert report.kills.total() + report.survived == len(STAGES)
    kill.check_end(project, results(undisturbed))


def test_the_harness_notices_what_it_looks_for(project: Path, undisturbed: Path) -> None:
    expected = results(undisturbed)
    record = next((project / "artifacts/objects/detect").glob("*/*/object.json"))
    again = record.with_name("again")
    again.write_bytes(record.read_bytes())
    written = kill.whole_objects(project)
    again.replace(record)
    with pytest.raises(kill.PromiseBroken, match="wrote again"):
        kill.check_restart(project, "detect", "", 3, written)
    with pytest.raises(kill.PromiseBroken, match="had 3 whole objects and found 2"):
        kill.check_restart(project, "detect", "detect: 1 images computed, 2 found in the store\n", 3, {})
    (project / "artifacts/svm/model.h5").write_bytes(b"")
    with pytest.raises(kill.PromiseBroken, match=r"undisturbed run: artifacts/svm/model\.h5$"):
        kill.check_end(project, expected)
    (project / "reports/.partial").mkdir()
    with pytest.raises(kill.PromiseBroken, match=r"left behind after gc: reports/\.partial"):
        kill.check_end(project, expected)
