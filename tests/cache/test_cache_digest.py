"""Keys depend on everything that matters, on nothing else, and on nothing ambiguous."""

import hashlib
import json
import math
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cache import Recipe, StoreError, canonical_json, digest_array, digest_file, digest_json

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


@given(JSON_VALUES)
@settings(deadline=None, max_examples=50)
def test_canonical_json_is_read_back_with_the_same_types(value: Any) -> None:
    assert repr(json.loads(canonical_json(value))) == repr(_sorted(value))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def test_digest_of_a_value_is_the_sha256_of_its_text() -> None:
    value = {"b": [1, 2.5, None], "a": "é", "c": (True, 1e-5)}
    text = b'{"a":"\\u00e9","b":[1,2.5,null],"c":[true,1e-05]}'
    assert canonical_json(value) == text
    assert digest_json(value) == hashlib.sha256(text).hexdigest()


def test_values_that_python_calls_equal_have_different_digests() -> None:
    assert len({digest_json(value) for value in (1, 1.0, True, "1", [1])}) == 5
    assert digest_json(0.0) != digest_json(-0.0)


def test_subclasses_of_plain_types_count_as_the_plain_type() -> None:
    class Kind(IntEnum):
        WARP = 3

    assert digest_json(np.float64(0.1)) == digest_json(0.1)
    assert digest_json(Kind.WARP) == digest_json(3)
    assert digest_json((1, 2)) == digest_json([1, 2])


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"svm": {"C": math.nan}}, "value.svm.C"),
        ([1, math.inf], r"value\[1\]"),
        ({1: 2}, "value"),
        ({"a": np.int64(3)}, "value.a"),
        ({"a": np.zeros(2)}, "value.a"),
        ({"a": {1, 2}}, "value.a"),
        ({"a": b"x"}, "value.a"),
    ],
)
def test_what_is_not_json_is_refused_by_its_place(value: dict[str | int, Any] | list[float], place: str) -> None:
    with pytest.raises(StoreError, match=place):
        digest_json(value)


@pytest.mark.parametrize(
    "other",
    [
        Recipe("detect", 1, {"a": 1}, {"image": "x"}),
        Recipe("features", 2, {"a": 1}, {"image": "x"}),
        Recipe("features", 1, {"a": 1.0}, {"image": "x"}),
        Recipe("features", 1, {"a": True}, {"image": "x"}),
        Recipe("features", 1, {"a": 1}, {"image": "y"}),
        Recipe("features", 1, {"a": 1, "image": "x"}, {}),
    ],
)
def test_each_part_of_a_recipe_changes_its_key(other: Recipe) -> None:
    recipe = Recipe("features", 1, {"a": 1}, {"image": "x"})
    assert other.key != recipe.key
    assert other != recipe


def test_recipes_are_equal_hashable_and_independent_of_order_and_of_later_changes() -> None:
    params: dict[str, Any] = {"b": 1, "a": [1, 2]}
    recipe = Recipe("features", 1, params, {})
    params["a"].append(3)
    same = Recipe("features", 1, {"a": (1, 2), "b": 1}, {})
    assert recipe == same and len({recipe, same}) == 1
    assert recipe.key == digest_json({"stage": "features", "version": 1, "params": {"b": 1, "a": [1, 2]}, "inputs": {}})


@pytest.mark.parametrize("stage", ["", "..", "a/b", "/etc", "1a", "a.b", "a" * 65, "a\n", None])
def test_a_stage_name_that_could_leave_the_store_is_refused(stage: Any) -> None:
    with pytest.raises(StoreError, match="stage"):
        Recipe(stage, 1, {}, {})


@pytest.mark.parametrize("version", [True, 1.0, "1", None])
def test_a_version_that_is_not_an_int_is_refused(version: Any) -> None:
    with pytest.raises(StoreError, match="version"):
        Recipe("features", version, {}, {})


def test_params_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(StoreError, match="params is a list"):
        Recipe("features", 1, [1], {})  # type: ignore[arg-type]


def test_digest_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"x" * 300_000)
    assert digest_file(path) == hashlib.sha256(b"x" * 300_000).hexdigest()
    with pytest.raises(StoreError, match="gone"):
        digest_file(tmp_path / "gone")


def test_digest_array_sees_values_dtype_and_shape_but_not_layout() -> None:
    a = np.arange(12, dtype=np.float32).reshape(3, 4)
    same = [np.asfortranarray(a), a.astype(">f4"), np.arange(24, dtype=np.float32).reshape(3, 8)[:, ::2] * 0 + a]
    assert {digest_array(b) for b in same} == {digest_array(a)}
    different: list[NDArray[Any]] = [
        a.astype(np.float16),
        a.reshape(4, 3),
        a + 1,
        a.view(np.int32),
        a[:0],
        a[:0].reshape(0, 3, 4),
    ]
    assert len({digest_array(b) for b in [a, *different]}) == 7
    assert digest_array(a, a) != digest_array(a) != digest_array(np.concatenate([a, a]))


def test_digest_array_refuses_objects() -> None:
    with pytest.raises(StoreError, match="objects"):
        digest_array(np.array([{}], dtype=object))
