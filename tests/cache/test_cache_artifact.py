"""Artifact manifests: the same bytes for the same content, and every malformed one told by its path."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache import Artifact, StoreError, StoreVersionError, digest_json

KEYS = st.integers(0, 2**256 - 1).map(lambda n: f"{n:064x}")
ENTRIES = st.dictionaries(st.integers(0, 10**6), KEYS, max_size=5).map(lambda d: tuple(d.items()))
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
MAPPINGS = st.dictionaries(st.text(), VALUES | st.lists(VALUES, max_size=2), max_size=3)


def sample(**changes: Any) -> Artifact:
    values = {
        "stage": "features",
        "version": 3,
        "params": {"layer": "fc7"},
        "inputs": {"weights": "w" * 64},
        "entries": ((7, "a" * 64), (3, "b" * 64)),
        "summary": {"dataset": "scenes", "regions": 12},
    }
    return Artifact(**{**values, **changes})


@given(entries=ENTRIES, params=MAPPINGS, inputs=MAPPINGS, summary=MAPPINGS)
@settings(deadline=None, max_examples=25)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    entries: tuple[tuple[int, str], ...],
    params: dict[str, Any],
    inputs: dict[str, Any],
    summary: dict[str, Any],
) -> None:
    path = tmp_path_factory.mktemp("artifact") / "manifest.json"
    artifact = Artifact("detect", 1, params, inputs, entries, summary)
    artifact.write(path)
    back = Artifact.read(path)
    assert back == artifact and hash(back) == hash(artifact)
    assert back.entries == entries
    assert list(back.keys.items()) == list(entries)
    first = path.read_bytes()
    back.write(path)
    assert path.read_bytes() == first


def test_bytes_do_not_depend_on_the_order_of_mappings(tmp_path: Path) -> None:
    sample(summary={"a": 1, "b": 2}).write(tmp_path / "1")
    sample(summary={"b": 2, "a": 1}).write(tmp_path / "2")
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert json.loads((tmp_path / "1").read_bytes())["entries"] == [[7, "a" * 64], [3, "b" * 64]]
    sample(entries=()).write(tmp_path / "3")
    assert Artifact.read(tmp_path / "3").keys == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"stage": "detect"},
        {"version": 4},
        {"params": {"layer": "fc6"}},
        {"inputs": {}},
        {"entries": ((3, "b" * 64), (7, "a" * 64))},
        {"summary": {}},
    ],
)
def test_each_part_changes_the_digest(changes: dict[str, Any]) -> None:
    assert sample(**changes).digest != sample().digest
    assert sample(**changes) != sample()


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    sample().write(tmp_path / "m")
    assert digest_json(json.loads((tmp_path / "m").read_bytes())) == sample().digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"entries": ((1, "a" * 64), (1, "b" * 64))}, "image 1 is listed twice"),
        ({"entries": (("1", "a" * 64),)}, "image id '1', not an int"),
        ({"entries": ((True, "a" * 64),)}, "image id True"),
        ({"entries": ((1, "zz"),)}, "not 64 lower-case hex"),
        ({"entries": ((1,),)}, r"entries\[0\]"),
        ({"entries": {1: "a" * 64}}, "entries is a dict"),
        ({"summary": {"seconds": float("nan")}}, r"summary\.seconds"),
        ({"params": [1]}, "params is a list"),
        ({"version": "1"}, "version '1'"),
        ({"stage": "a/b"}, "stage 'a/b'"),
    ],
)
def test_what_is_wrong_with_an_artifact_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        sample(**changes)


def test_a_file_that_is_none_is_refused_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    with pytest.raises(StoreError, match=f"{path}: no such artifact manifest; run `dvc repro`"):
        Artifact.read(path)
    sample().write(path)
    good = json.loads(path.read_bytes())
    for bad, message in [
        ("{", "not JSON"),
        ("[]", "not an artifact manifest"),
        ("\udcff".encode("utf-8", "surrogatepass").decode("latin1"), "not JSON"),
        (json.dumps({**good, "extra": 1}), "not an artifact manifest"),
        (json.dumps({k: v for k, v in good.items() if k != "params"}), "not an artifact manifest"),
        (json.dumps({**good, "format": 0}), "not an artifact manifest"),
        (json.dumps({**good, "entries": [[1, "x"]]}), "dvc repro -f -s features"),
        (json.dumps({**good, "stage": 5}), "stage 5"),
    ]:
        path.write_text(bad)
        with pytest.raises(StoreError, match=message) as caught:
            Artifact.read(path)
        assert str(caught.value).startswith(str(path))
    path.write_text(json.dumps({**good, "format": 2, "something": "new"}))
    with pytest.raises(StoreVersionError, match=r"format 2.*update the program"):
        Artifact.read(path)
