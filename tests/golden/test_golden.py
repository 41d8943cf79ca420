"""Each stage's result on a tiny input is the one recorded with its version: one that moves must raise it."""

import copy
import json

import pytest

from tests.golden.record import STAGES, run_tiny
from tests.golden.results import EXACT, NODES, RECORDED, TOLERANCE, differences, recorded_nodes, results_of

_STAGES = [name for name in STAGES if name not in {"combine", "report"}]  # one hands on a list, one shows times
_STAGES += [f"{name}.{node.name}" for name, nodes in NODES.items() for node in nodes]
_HOW = (
    "If the change is meant, raise the stage's version in stages/graph.py, say so in CHANGELOG.md, and record the new "
    "result: `python -m tests.golden.record`"
)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    return results_of(run_tiny(tmp_path_factory.mktemp("golden")))


@pytest.mark.parametrize("name", _STAGES)
def test_the_result_is_the_one_recorded_with_this_version(here: dict[str, dict[str, object]], name: str) -> None:
    recorded = json.loads(RECORDED.read_text())
    assert name in recorded, f"{name}: no result is recorded; `python -m tests.golden.record`"
    version = recorded_nodes()[name].version
    assert recorded[name]["version"] == version, f"{name}: recorded at another version. {_HOW}"
    moved = differences(here[name]["outputs"], recorded[name]["outputs"], TOLERANCE.get(name, EXACT), name)
    assert not moved, "\n".join([f"{name}: gives another result at the same version {version}. {_HOW}", *moved[:10]])


@pytest.mark.parametrize("name", _STAGES)
def test_a_moved_result_is_seen(here: dict[str, dict[str, object]], name: str) -> None:
    """The comparison can fail: any number moved by a fifth of its array's spread, or a shape, is told."""
    recorded = json.loads(RECORDED.read_text())[name]["outputs"]
    moved = copy.deepcopy(recorded)
    _move(moved)
    assert differences(moved, recorded, TOLERANCE.get(name, EXACT), name)


def _move(part: object) -> bool:
    """Change the first number found."""
    if isinstance(part, dict):
        if "deviation" in part:
            part["mean"] += 0.2 * max(part["deviation"], abs(part["mean"]), 1.0)
            return True
        for key, value in part.items():
            if isinstance(value, int | float):
                part[key] = value + 1
                return True
            if _move(value):
                return True
    return False
