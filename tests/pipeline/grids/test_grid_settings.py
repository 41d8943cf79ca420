"""A value of --set is the same to YAML, by which it is checked, and to DVC, which reads Hydra's grammar."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides, to_hydra_overrides
from hypothesis import example, given
from hypothesis import strategies as st

from cache.errors import ParamsError
from pipeline.grids.plans import settings_of
from pipeline.grids.reading import read_grid
from pipeline.grids.setting import Setting, change, hydra_form

GRIDS = [read_grid(path) for path in sorted((Path(__file__).parents[3] / "grids").glob("*.yaml"))]
ODD = ["~", "/data/a(1).h5", "off", "0x10", "[07,12]", "", "'off'", "a,b", "'a,b'", "1:30", "'null'", "[a, 'b,c', [~]]"]
ODD += [
    r"C:\\data\\",
    r"it's \'",
    "'",
    "a=b",
    "'  a '",
    "-1",
    "1_000",
    "1.5e-5",
    ".inf",
    "-.inf",
    "+1",
    "'\u00e9 \u2603'",
    "012",
]


def by_hydra(value: Any) -> Any:
    """What DVC makes of a value's form."""
    (override,) = to_hydra_overrides([f"a.b={hydra_form(value)}"])
    assert not override.is_sweep_override()
    return override.value()


@pytest.mark.parametrize("text", ODD)
def test_odd_values_are_the_same_to_both(text: str) -> None:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        assert text == "'"
        value = text
    assert repr(by_hydra(value)) == repr(value)


def test_every_cells_settings_are_the_same_to_both() -> None:
    values: dict[str, Any] = {}
    for grid in GRIDS:
        for row, column in itertools.product(grid.rows or ["rcnn"], grid.columns):
            given = settings_of(grid.cell(row, column), row, column)
            values |= {f"{one.name}={one.value}": one.value for one in given}
    assert len(values) > 60
    for name, value in values.items():
        plain = value.replace("{", "").replace("}", "") if isinstance(value, str) else value  # a role's name
        assert repr(by_hydra(plain)) == repr(plain), name


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]))
)


@given(st.recursive(leaves, lambda inner: st.lists(inner, max_size=3), max_leaves=5))
@example("'")
@example("\\")
@example("\\'")
@example("a\\\\'\\")
def test_any_value_is_the_same_to_both(value: Any) -> None:
    if "${" in repr(value):
        with pytest.raises(ParamsError, match="cannot be given to DVC"):
            hydra_form(value)
    else:
        assert repr(by_hydra(value)) == repr(value)


@pytest.mark.parametrize("value", ["${seed}", {"a": 1}, ["a", {"b": 1}], yaml.safe_load("2020-01-01")])
def test_what_has_no_form_is_refused(value: Any) -> None:
    with pytest.raises(ParamsError, match=r"cannot be given to DVC; write it into params\.yaml"):
        hydra_form(value)


@pytest.mark.parametrize(("value", "read"), [(1e-5, "'1e-05'"), ("off", "False")])
def test_what_dvc_would_write_as_another_value_is_refused(tmp_path: Path, value: Any, read: str) -> None:
    """DVC writes YAML 1.2, which the pipeline reads as YAML 1.1."""
    path = tmp_path / "params.yaml"
    path.write_text("lr: 1\n")
    with pytest.raises(ParamsError, match=f"lr = {value!r} would read as {read} after DVC has written it"):
        change(tmp_path, [Setting("params.yaml", "lr", value)])
    path.write_text("lr: 1\n")
    apply_overrides(path, [f"lr={hydra_form(value)}"])
    assert repr(yaml.safe_load(path.read_text())["lr"]) == read


@pytest.mark.parametrize("value", ["???", "a\nb", "\t"])
def test_text_that_dvc_cannot_take_is_one_line_or_is_set(tmp_path: Path, value: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("path: 1\n")
    try:
        change(tmp_path, [Setting("params.yaml", "path", value)])
    except ParamsError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert yaml.safe_load(path.read_text()) == {"path": value}
