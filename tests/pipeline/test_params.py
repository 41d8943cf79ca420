"""params.yaml: strict, and every problem named with the nearest name."""

import re
from pathlib import Path
from typing import Any

import pytest

from cache.errors import ParamsError
from pipeline.detectors import Layout
from pipeline.params import load_params, parse_params, schema
from pipeline.params_table import markdown, rows
from stages.graph import KINDS


def test_defaults_are_complete() -> None:
    params: Any = parse_params({})  # its groups are made from the stages' declarations
    assert params.dataset == "scenes"
    assert params.svm.C == 0.001
    spp = params.features.spp
    assert (spp.scales_px, spp.levels, spp.target_side_px, spp.pooling) == ((688,), (1, 2, 3, 6), 224, "max")


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"svmm": {}}, "unknown parameter 'svmm' (did you mean 'svm'?)"),
        ({"": {}}, "unknown parameter ''; known there: "),
        ({"svm": {" ": 1}}, "unknown parameter 'svm. '; known there: C, "),
        ({"svm": {"c_value": 1, "laier": "fc7"}}, "unknown parameter 'svm.laier' (did you mean 'layer'?)"),
        ({"execution": {"workers": -1}}, "execution.workers = -1"),
        ({"execution": {"backend": "dsk"}}, "execution.backend = 'dsk'"),
        ({"execution": {"backend": "dask", "scheduler": "10.0.0.1:8786"}}, "execution.scheduler = '10.0.0.1:8786'"),
        ({"execution": {"scheduler": "tcp://10.0.0.1:8786"}}, "execution.scheduler: is used by backend dask only"),
        ({"svm": {"c": 1}}, "unknown parameter 'svm.c' (did you mean 'C'?)"),
        ({"proposals": {"method": "selective_serch"}}, "(did you mean 'selective_search'?)"),
        ({"network": {"name": "alexnett"}}, "(did you mean 'alexnet'?)"),
        ({"seed": "x"}, "seed = 'x'"),
        ({"finetune": {"bg_iou": 0.9}}, "finetune: finetune.bg_iou (0.9) must not be above finetune.fg_iou (0.5)"),
        ({"features": {"layers": ["pool5"]}}, "svm.layer = 'fc7' is not among features.layers (pool5)"),
        ({"network": {"name": "squeezenet1_0"}}, "features.layers: network squeezenet1_0 has no fc6; its named layers"),
        ({"svm": {"layer": "pool5"}, "bbox": {"layer": "x"}}, "bbox.layer = 'x' is not among features.layers"),
        ({"dataset": "../up"}, "dataset = '../up'"),
        ({"classify": {"scales_px": [245]}}, "classify.scales_px: is for dense views, and classify.views lists none"),
    ],
)
def test_problems_are_named(document: dict[str, object], expected: str) -> None:
    with pytest.raises(ParamsError) as error:
        parse_params(document)
    assert expected in str(error.value)


@pytest.mark.parametrize("kind", ["fast", "faster", "joint"])
def test_a_grid_that_regions_are_not_pooled_to_is_refused_once(kind: str) -> None:
    with pytest.raises(ParamsError) as error:
        parse_params({"network": {"pool5_grid": 3}}, "p.yaml", KINDS[kind])
    assert str(error.value).startswith("p.yaml: network.pool5_grid: regions are pooled to the grid that fc6 takes")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (
            {"name": "squeezenet1_0"},
            "network.fc: squeezenet1_0 has no fully connected layer that takes pool5, and so no",
        ),
        (
            {"name": "zf5", "pyramid": [1, 2, 3, 6]},
            "network.pyramid: [1, 2, 3, 6] has several levels, and windows need",
        ),
        ({"name": "squeezenet1_0", "fc": [64, 64], "pyramid": [4]}, None),
        ({"name": "zf5"}, None),
    ],
)
def test_a_network_without_windows_is_refused_before_it_is_trained(
    network: dict[str, object], expected: str | None
) -> None:
    if expected is None:
        parse_params({"network": network}, "p.yaml", KINDS["overfeat"])
        return
    with pytest.raises(ParamsError) as error:
        parse_params({"network": network}, "p.yaml", KINDS["overfeat"])
    assert str(error.value).startswith(f"p.yaml: {expected}") and len(str(error.value).splitlines()) == 1


def test_all_problems_in_one_report() -> None:
    with pytest.raises(ParamsError) as error:
        parse_params({"svmm": {}, "seed": -1, "execution": {"threads": 2}})
    assert len(str(error.value).splitlines()) == 3


def test_a_list_with_a_wrong_entry_is_not_also_too_short() -> None:
    with pytest.raises(ParamsError) as error:
        parse_params({"pretrain": {"sizes_px": [8]}}, "p.yaml")
    assert str(error.value) == "p.yaml: pretrain.sizes_px.0 = 8: input should be greater than or equal to 16"
    with pytest.raises(ParamsError, match=r"pretrain\.sizes_px = \[\]: list should have at least 1 item"):
        parse_params({"pretrain": {"sizes_px": []}})


@pytest.mark.parametrize("group", ["pretrain", "finetune"])
def test_a_rate_drops_every_so_many_iterations_or_at_those_listed(group: str) -> None:
    for step in (7, [30, 60]):
        settings = getattr(parse_params({group: {"step": step}}), group)
        assert settings.model_dump(mode="json")["step"] == step  # what a checkpoint's identity has
    wrong: dict[object, str] = {
        "x": "step = 'x': input should be a valid integer, unable to parse string as an integer",
        0: "step = 0: input should be greater than or equal to 1",
        (): "step = []: list should have at least 1 item after validation, not 0",
        (5, 0): "step.1 = 0: input should be greater than or equal to 1",
        (5, 5): "step: each iteration must be after the one before; list them in order",
    }
    for bad, said in wrong.items():
        with pytest.raises(ParamsError) as error:
            parse_params({group: {"step": list(bad) if isinstance(bad, tuple) else bad}}, "p.yaml")
        assert str(error.value) == f"p.yaml: {group}.{said}"


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "\x00", "- x"])
def test_not_a_mapping(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError, match=r"params\.yaml"):
        load_params(Layout(tmp_path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "svm:\n  C: [1\n  b: 2\n",
            ", line 3, column 4: is not YAML: while parsing a flow sequence that begins in line 2: "
            "expected ',' or ']', but got ':'; mend the file",
        ),
        ("seed: 3: 4\n", ", line 1, column 8: is not YAML: mapping values are not allowed here; mend the file"),
    ],
)
def test_what_is_no_yaml_is_told_by_line_and_column(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError) as caught:
        load_params(Layout(tmp_path))
    assert str(caught.value) == f"{path}{said}"


def test_aliases_and_brackets_without_end_are_one_line(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    lines = ["x0: &x0 [a, a, a, a, a, a, a, a, a]"]
    lines += [f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9)}]" for i in range(1, 12)]
    for text in ("\n".join([*lines, "dataset: *x11"]), "[" * 5000, "seed: 0x" + "f" * 5000):
        file.write_text(text)
        with pytest.raises(ParamsError) as caught:
            load_params(Layout(tmp_path))
        assert len(str(caught.value)) < 20_000


@pytest.mark.parametrize(
    "name",
    ["007", "2007", "1_000", "no", "On", "TRUE", "null", "1.5", "1e5", "2024-01-02", "2024-13-45", "0x1F", "0o17"],
)
@pytest.mark.parametrize("after", ["", "  # ours", "\r"])
def test_a_dataset_that_yaml_takes_for_something_else_is_to_be_put_in_quotes(
    tmp_path: Path, name: str, after: str
) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(f"seed: 1\ndataset: {name}{after}\n", newline="")
    with pytest.raises(ParamsError) as caught:
        load_params(Layout(tmp_path))
    assert str(caught.value) == (
        f'{file}: dataset: YAML does not read {name} without quotes as a name; put quotes: dataset: "{name}"'
    )
    file.write_text(f'dataset: "{name}"{after}\n')
    assert load_params(Layout(tmp_path)).dataset == name


@pytest.mark.parametrize("name", ["scenes", "voc2007", "3dshapes", "1-2", "e5", "a_1", "9e"])
def test_other_dataset_names_need_no_quotes(tmp_path: Path, name: str) -> None:
    (tmp_path / "params.yaml").write_text(f"dataset: {name}  # ours\n")
    assert load_params(Layout(tmp_path)).dataset == name


def test_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="not found; run from the project's folder"):
        load_params(Layout(tmp_path))


def test_settings_are_frozen() -> None:
    params: Any = parse_params({})
    with pytest.raises(ValueError, match="frozen"):
        params.svm.C = 2


def test_the_page_of_parameters_has_every_group_of_every_kind_once() -> None:
    page = markdown()
    groups = {name for kind in KINDS for name in schema(kind).model_fields} - {"dataset", "seed"}
    for group in groups:
        assert page.count(f"\n## {group}\n") == 1, group
    for kind in KINDS:
        assert {row.name for row in rows(kind)} <= set(re.findall(r"^\| `([^`]+)`", page, re.MULTILINE))


def test_the_page_says_where_a_kind_has_a_group_otherwise() -> None:
    fast = markdown().partition("\n## fast\n")[2].partition("\n## ")[0]
    assert "kind `fast`, `faster` or `joint`." in fast
    assert "Kind `joint` has no `fast.iterations`, " in fast and " or `fast.heads`." in fast
    own = fast.partition("Of kind `joint`:")[2]
    assert re.findall(r"^\| `(\S+)` \| `(\S+)`", own, re.MULTILINE) == [("fast.rois_per_image", "128")]
    assert ("fast.rois_per_image", "64") in re.findall(r"^\| `(\S+)` \| `(\S+)`", fast, re.MULTILINE)
