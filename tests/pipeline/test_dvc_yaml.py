"""dvc.yaml says exactly what each stage declares, and each stage's code is among its dependencies."""

from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from pipeline.graph import ALL_STAGE_NAMES, CLASSIFICATION_STAGE_NAMES, STAGE_NAMES, load_stage
from pipeline.params import load_params, schema
from stages.detections.saved import FOLDER as SAVED

ROOT = Path(__file__).parents[2]
DETECTION, CLASSIFICATION = (
    yaml.safe_load((ROOT / file).read_text(encoding="utf-8")) for file in ("dvc.yaml", "classification/dvc.yaml")
)
DECLARED = DETECTION["stages"] | CLASSIFICATION["stages"]


def _paths(entries: list[object]) -> set[str]:
    """Paths of a dvc.yaml list, whose entries are strings or one-key mappings."""
    return {next(iter(e)) if isinstance(e, dict) else str(e) for e in entries}


def test_stages_are_the_same() -> None:
    assert set(DETECTION["stages"]) == set(STAGE_NAMES)
    assert set(CLASSIFICATION["stages"]) == set(CLASSIFICATION_STAGE_NAMES)


def test_paths_of_the_second_file_are_the_projects() -> None:
    assert all(stage["wdir"] == ".." for stage in CLASSIFICATION["stages"].values())
    assert not any("wdir" in stage for stage in DETECTION["stages"].values())


@pytest.mark.parametrize("name", ALL_STAGE_NAMES)
def test_stage_matches_its_declaration(name: str) -> None:
    stage, declared = load_stage(name), DECLARED[name]
    assert declared["cmd"] == f"rcnn run {name}"
    code = {f"stages/{name}", "stages/common", "manifests", "cache"}
    assert set(declared["deps"]) == set(stage.inputs.values()) | code
    own_dataset = {"dataset"} if any("${dataset}" in p for p in stage.inputs.values()) else set()
    assert set(declared["params"]) == set(stage.groups) | own_dataset
    metrics = {stage.outputs[n] for n in stage.metrics}
    plots = {stage.outputs[n] for n in stage.plots}
    assert _paths(declared.get("metrics", [])) == metrics
    assert _paths(declared.get("plots", [])) == plots
    assert _paths(declared.get("outs", [])) == set(stage.outputs.values()) - metrics - plots


def test_every_input_is_made_by_an_earlier_stage() -> None:
    made: set[str] = set()
    for name in ALL_STAGE_NAMES:
        stage = load_stage(name)
        for path in stage.inputs.values():
            if path == SAVED:  # the user's: `rcnn detections save`
                continue
            concrete = path.replace("${dataset}", "scenes")
            assert any(concrete == m or concrete.startswith(m + "/") for m in made), (name, path)
        made |= set(stage.outputs.values())


def _field_names(model: type[BaseModel]) -> set[str]:
    names = set(model.model_fields)
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names |= _field_names(field.annotation)
    return names


def test_no_parameter_has_a_name_that_dvc_drops() -> None:
    # dvc's run cache leaves keys named size and nfiles out of the hash: a change would restore a stale result.
    assert not _field_names(schema()) & {"size", "nfiles"}


def test_params_yaml_is_valid_and_complete() -> None:
    params = load_params(ROOT / "params.yaml")
    document = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for name in ALL_STAGE_NAMES:
        # DVC refuses a parameter that is not in the file, and an omitted field would change with our defaults unseen.
        for group in load_stage(name).groups:
            assert group.split(".")[0] in document, group
    for group, model in ((g, m) for n in ALL_STAGE_NAMES for g, m in load_stage(n).settings.items()):
        assert set(document[group]) == set(model.model_fields), group
    assert params.dataset == "scenes"
