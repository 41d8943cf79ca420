"""The short form of kill.py: a few stages of a tiny project, and ``dvc repro``, killed at a random moment."""

import itertools
import json
import os
import random
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

import kill
import pytest
import yaml
from process_group import BETWEEN, Ended, Kill, run_group
from tiny_project import (
    CLASSIFICATION_STAGE_NAMES,
    REGION_STAGES,
    SEGMENTATION_STAGE_NAMES,
    STAGE_NAMES,
    StageServer,
    forget,
    results,
    run_of,
    whole_objects,
)
from waiting import HANG_S

AT_ANY_MOMENT = ("finetune", "features")  # a training, and objects by several threads
AT_CALLS = ("scenes", "proposals", "svm", "detect")
START_S = 1.0
_EACH_LATER = 8  # 1st, 8th, 64th ... call
TRIES = 100  # a stage may be through before the signal comes; from then on it comes earlier


def seconds_of(project: Path) -> dict[str, float]:
    timings = json.loads((project / "reports/timings.json").read_text())
    return {stage: START_S + timings[stage]["seconds"] for stage in timings}


def forget_all(project: Path, stage: str) -> None:
    """Forget a stage, and have DVC forget it, too, which would put the outputs back from its cache."""
    forget(project, stage)
    lock = project / "dvc.lock"
    if lock.exists():
        known = yaml.safe_load(lock.read_text())
        known["stages"].pop(stage, None)
        lock.write_text(yaml.safe_dump(known, sort_keys=False))
        shutil.rmtree(project / ".dvc/cache/runs", ignore_errors=True)


def kill_each(driver: kill.Driver, step: tuple[str, ...], stages: tuple[str, ...], seconds: dict[str, float]) -> None:
    """Run a step anew for these stages, until a kill has hit a running process of each of them."""
    report, rng = kill.Report(), random.Random(0)
    for _ in range(TRIES):
        still = Counter(stages) - report.kills
        if not still:
            break
        for stage in still:
            forget_all(driver.project, stage)
        kill.killed_step(driver, step, still, seconds, rng, report)
    assert set(stages) <= report.kills.keys()


def test_killed_stages_go_on_and_end_with_the_same_bits(project: Path, undisturbed: Path) -> None:
    driver = kill.Driver(project)
    for stage in AT_ANY_MOMENT:
        kill_each(driver, (stage,), (stage,), seconds_of(undisturbed))
    kill.check_end(project, results(undisturbed))


def test_a_killed_combine_goes_on_and_ends_with_the_same_bits(combining: Path, tmp_path: Path) -> None:
    expected, project = results(combining), tmp_path / "killed"
    shutil.copytree(combining, project)
    kill_each(kill.Driver(project), ("combine",), ("combine",), seconds_of(combining))
    kill.check_end(project, expected)


def kill_at_calls(driver: kill.Driver, server: StageServer, stage: str) -> None:
    """Run a stage anew, killed at a file-system call, a later one each time it is started, until it is through."""
    forget(driver.project, stage)
    for kills in itertools.count():
        before, written = driver.whole(), whole_objects(driver.project)
        run = server.run(driver.project, *run_of(stage), root=driver.project, kill_at=_EACH_LATER**kills)
        kill.check_restart(driver.project, run.said, before, written)
        if run.status == 0:
            break
        assert run.status == -signal.SIGKILL, run.said
    assert kills > 1


def test_stages_killed_at_a_call_go_on_and_end_with_the_same_bits(
    project: Path, undisturbed: Path, server: StageServer
) -> None:
    driver = kill.Driver(project)
    for stage in AT_CALLS:
        kill_at_calls(driver, server, stage)
    kill.check_end(project, results(undisturbed))


def test_a_killed_classification_goes_on_and_ends_with_the_same_bits(
    classifying: Path, classified: Path, server: StageServer
) -> None:
    driver = kill.Driver(classifying, kill.CLASSIFICATION)
    for stage in CLASSIFICATION_STAGE_NAMES:
        kill_at_calls(driver, server, stage)
    kill.check_end(classifying, results(classified))


def test_a_killed_segmentation_goes_on_and_ends_with_the_same_bits(
    segmenting: Path, segmented: Path, server: StageServer
) -> None:
    driver = kill.Driver(segmenting, kill.SEGMENTATION)
    for stage in SEGMENTATION_STAGE_NAMES:
        kill_at_calls(driver, server, stage)
    kill.check_end(segmenting, results(segmented))


def test_killed_stages_of_region_networks_go_on_and_end_with_the_same_bits(
    regions: Path, finished_regions: Path, server: StageServer
) -> None:
    driver = kill.Driver(regions, kill.REGIONS)
    for stage in REGION_STAGES:
        kill_at_calls(driver, server, stage)
    kill.check_end(regions, results(finished_regions))


def test_a_killed_dvc_repro_goes_on_and_ends_with_the_same_bits(project: Path, undisturbed: Path) -> None:
    driver = kill.DvcDriver(project)
    driver.dvc("commit", "-f", "-q", "dvc.yaml")  # as if DVC had run all that is there
    kill_each(driver, STAGE_NAMES, ("features",), seconds_of(undisturbed))
    kill.check_end(project, results(undisturbed))


def test_only_a_signal_that_meets_a_running_stage_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(program: str, after_s: float, *arguments: str) -> Ended:
        command = [sys.executable, "-c", program, *arguments]
        return run_group(command, tmp_path, dict(os.environ), Kill("svm", after_s))

    late = ended("print('through')", HANG_S, "run", "svm")
    assert (late.status, late.said, late.hit) == (0, "through\n", "")
    # a stage from when it has begun on: by its arguments it is none before
    for run, stage in (
        ("'run', 'svm', '--stage-version', '4'", "svm"),
        ("'-d', 'steps', 'run', 'rpn_1'", "steps/rpn_1"),
    ):
        process = f"[sys.executable, '-c', 'import time; time.sleep(3600)', {run}]"
        hit = ended(f"import os, sys; print('begun', flush=True); os.execv(sys.executable, {process})", 0.1)
        assert (hit.status, hit.said, hit.hit) == (-signal.SIGKILL, "begun\n", stage)
    seen = iter(["svm"])  # when the moment of the kill is settled, and no longer when it has come
    monkeypatch.setattr("process_group.running_stage", lambda group: next(seen, ""))
    passed = ended("import time; time.sleep(3600)", 0.0)
    assert (passed.status, passed.hit) == (-signal.SIGKILL, BETWEEN)


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("'./dvc.lock' validation failed.\n\nrequired key not provided, in schema", "dvc.lock"),
        ("'detectors/steps/dvc.lock' is invalid.\n\nWhile scanning a simple key", "detectors/steps/dvc.lock"),
        ("'./classification/dvc.lock' is invalid.\n\nWhile scanning a simple key", "classification/dvc.lock"),
        ("ERROR: Unable to read RWLock-file '.dvc/tmp/rwlock'. JSON structure is corrupted", ".dvc/tmp/rwlock"),
        ("Updating lock file 'classification/dvc.lock'", None),
    ],
)
def test_the_file_that_dvc_found_cut_off_is_the_one_it_names(said: str, name: str | None) -> None:
    assert kill.cut_file(said) == name


def test_the_harness_notices_what_it_looks_for(project: Path, undisturbed: Path) -> None:
    expected = results(undisturbed)
    record = next((project / "artifacts/objects/detect").glob("*/*/object.json"))
    again = record.with_name("again")
    again.write_bytes(record.read_bytes())
    written = whole_objects(project)
    again.replace(record)
    with pytest.raises(kill.PromiseBroken, match="written again"):
        kill.check_restart(project, "", {"detect": 3}, written)
    with pytest.raises(kill.PromiseBroken, match="had 3 whole objects and found 2"):
        kill.check_restart(project, "detect: 1 images computed, 2 found in the store\n", {"detect": 3}, {})
    (project / "artifacts/svm/model.h5").write_bytes(b"")
    with pytest.raises(kill.PromiseBroken, match=r"undisturbed run: artifacts/svm/model\.h5$"):
        kill.check_end(project, expected)
    (project / "artifacts/svm/model.tmp").touch()
    with pytest.raises(kill.PromiseBroken, match=r"left behind after gc: artifacts/svm/model\.tmp"):
        kill.check_end(project, expected)
