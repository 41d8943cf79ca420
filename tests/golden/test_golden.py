"""Each stage's result on a tiny input is the one recorded with its version: one that moves must raise it."""

import copy
import json

import pytest
from warm_rcnn import served

from stages.graph import STAGES
from tests.golden.record import PINNED, run_tiny
from tests.golden.results import EXACT, RECORDED, TOLERANCE, differences

_HOW = (
    "If the change is meant, raise the stage's version in stages/graph.py, say so in CHANGELOG.md, and record the new "
    "result: `python -m tests.golden.record`"
)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    folder = tmp_path_factory.mktemp("golden")
    with served(folder / "bin" / "rcnn", **PINNED) as program:
        return run_tiny(folder, program)


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_the_result_is_the_one_recorded_with_this_version(here: dict[str, dict[str, object]], name: str) -> None:
    recorded, version = json.loads(RECORDED.read_text()), STAGES[name].version
    assert name in recorded, f"{name}: no result is recorded; `python -m tests.golden.record`"
    assert recorded[name]["version"] == version, f"{name}: recorded at another version. {_HOW}"
    moved = differences(here[name]["outputs"], recorded[name]["outputs"], TOLERANCE.get(name, EXACT), name)
    assert not moved, "\n".join([f"{name}: gives another result at the same version {version}. {_HOW}", *moved[:10]])


@pytest.mark.parametrize("name", STAGES)
def test_a_moved_result_is_seen(name: str) -> None:
    """The comparison can fail: any number moved by a fifth of its array's spread, or a shape, is told."""
    recorded = json.loads(RECORDED.read_text())[name]["outputs"]
    moved = copy.deepcopy(recorded)
    assert _move(moved)
    assert differences(moved, recorded, TOLERANCE.get(name, EXACT), name)


def _move(part: object) -> bool:
    """Change the first number found."""
    if isinstance(part, dict):
        if "deviation" in part:
            part["mean"] += 0.2 * max(part["deviation"], abs(part["mean"]), 1.0)
            return True
        for key, value in part.items():
            if isinstance(value, int | float | str):
                part[key] = value + 1 if not isinstance(value, str) else f"{value}!"
                return True
            if _move(value):
                return True
    if isinstance(part, list) and part:
        part.append(part[-1])
        return True
    return False
