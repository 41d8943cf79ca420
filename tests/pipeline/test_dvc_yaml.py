"""Every dvc.yaml is what the declarations write, and every params.yaml is valid and complete."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from pipeline import dvc_files
from pipeline.detectors import Layout, detector_names
from pipeline.graph import nodes_of
from pipeline.params import SHARED, load_params, own_groups, read_kind, schema
from stages.contract import Node
from stages.graph import CLASSIFICATION, HEAD, KINDS, ROOT, SAVED, SAVED_RUNS, SEGMENTATION, STAGES, at, root_nodes

PROJECT = Path(__file__).parents[2]
SHIPPED = [Layout(PROJECT, name) for name in detector_names(PROJECT)[1:]]
FILES = {
    "dvc.yaml": dvc_files.root_text(),
    "classification/dvc.yaml": dvc_files.classification_text(),
    "segmentation/dvc.yaml": dvc_files.segmentation_text(),
    **{f"detectors/{one.name}/dvc.yaml": dvc_files.detector_text(one, load_params(one)) for one in SHIPPED},
}
WRITTEN = FILES | {
    "comparison/dvc.yaml": dvc_files.comparison_text(PROJECT),
    "analysis/dvc.yaml": dvc_files.analysis_text(),
}


def paths(entries: list[Any]) -> set[str]:
    """Paths of a dvc.yaml list, whose entries are strings or one-key mappings."""
    return {next(iter(one)) if isinstance(one, dict) else str(one) for one in entries}


def test_a_detector_of_each_kind_is_shipped_but_of_those_that_join() -> None:
    assert {one.name for one in SHIPPED} == set(KINDS) - {ROOT, "combined"}


@pytest.mark.parametrize("name", WRITTEN)
def test_each_file_is_what_the_declarations_write(name: str) -> None:
    assert (PROJECT / name).read_text(encoding="utf-8") == WRITTEN[name], "run `rcnn detector write`"


def declared() -> Iterator[tuple[Path, str, Mapping[str, Any], Node]]:
    """Each node as its file has it: the file's folder, the detector, the stage's entry, the declaration."""
    for name, text in FILES.items():
        detector = name.split("/")[1] if name.startswith("detectors/") else ROOT
        layout = Layout(PROJECT, detector)
        nodes = nodes_of(layout, load_params(layout))
        for stage, entry in yaml.safe_load(text)["stages"].items():
            yield Path(name).parent, detector, entry, nodes[stage]


@pytest.mark.parametrize(
    ("folder", "detector", "entry", "node"), [pytest.param(*one, id=f"{one[1]}-{one[3].name}") for one in declared()]
)
def test_a_stage_is_what_its_node_declares(folder: Path, detector: str, entry: Mapping[str, Any], node: Node) -> None:
    stage, whose = node.stage, "" if detector == ROOT else f"-d {detector} "
    assert entry["cmd"] == f"rcnn {whose}run {node.name} --stage-version {node.version}"
    assert (PROJECT / folder / entry.get("wdir", ".")).resolve() == PROJECT
    assert paths(entry["deps"] if node.inputs else []) == set(node.inputs.values())  # and no file of the code
    metrics, plots = ({node.outputs[name] for name in names} for names in (stage.metrics, stage.plots))
    assert paths(entry.get("metrics", [])) == metrics
    assert paths(entry.get("plots", [])) == plots
    assert paths(entry.get("outs", [])) == set(node.outputs.values()) - metrics - plots
    if not stage.reads_all:
        watched: set[str] = set()
        for one in entry.get("params", []):
            watched |= {one} if isinstance(one, str) else set(*one.values())
        own_dataset = {"dataset"} if any("${dataset}" in path for path in node.inputs.values()) else set()
        assert watched == set(stage.parameters) | own_dataset


def test_one_stage_is_one_file_s() -> None:
    stages = [list(yaml.safe_load(text)["stages"]) for text in FILES.values()]
    assert stages[0] + stages[1] + stages[2] == list(root_nodes())
    assert stages[1] == [one.name for one in CLASSIFICATION]
    assert stages[2] == [one.name for one in SEGMENTATION]
    for shipped, own in zip(SHIPPED, stages[3:], strict=False):
        assert own == [one.name for one in KINDS[shipped.name].places]


@pytest.mark.parametrize("kind", KINDS)
def test_every_input_is_made_by_an_earlier_node(kind: str) -> None:
    detector = ROOT if kind == ROOT else "mine"
    nodes = [at(one, detector) for one in (*HEAD, *KINDS[kind].places, *CLASSIFICATION, *SEGMENTATION)]
    made: set[str] = set()
    for node in nodes:
        for path in node.inputs.values():
            if path in (SAVED, SAVED_RUNS):
                continue  # the user's: `rcnn detections save`, `rcnn classification save`
            if kind != ROOT and node.stage.name in {one.name for one in (*CLASSIFICATION, *SEGMENTATION)}:
                continue  # these are of the root's network and regions
            concrete = path.replace("${dataset}", "scenes")
            assert any(concrete == one or concrete.startswith(f"{one}/") for one in made), (node.name, path)
        assert not made & set(node.outputs.values())
        made |= set(node.outputs.values())


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models_in(field.annotation)
    for inner in get_args(annotation):
        yield from models_in(inner)


@pytest.mark.parametrize("kind", KINDS)
def test_no_parameter_has_a_name_that_dvc_drops(kind: str) -> None:
    # dvc's run cache leaves keys named size and nfiles out of the hash: a change would restore a stale result.
    names = {name for model in models_in(schema(kind)) for name in model.model_fields}
    assert {"dataset", "voc_iou"} <= names  # the project's own and the detector's
    assert not names & {"size", "nfiles"}


def assert_complete(document: Mapping[str, Any], model: type[BaseModel], where: str) -> None:
    """DVC refuses a parameter that is not in the file, and an omitted one would change with our defaults unseen."""
    assert set(document) == set(model.model_fields), where
    for name, field in model.model_fields.items():
        inner = list(models_in(field.annotation))[:1]
        if inner and isinstance(document[name], dict):
            assert_complete(document[name], inner[0], f"{where}.{name}")


def test_params_yaml_is_valid_and_complete() -> None:
    assert load_params(Layout(PROJECT)).dataset == "scenes"
    document = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    assert_complete(document, schema(), "params.yaml")


@pytest.mark.parametrize("layout", SHIPPED, ids=lambda layout: layout.name)
def test_a_detector_s_params_yaml_is_valid_and_complete(layout: Layout) -> None:
    load_params(layout)
    document = yaml.safe_load(layout.params_file.read_text(encoding="utf-8"))
    groups = own_groups(read_kind(layout))
    assert set(document) == {"kind", *groups}
    assert not set(document) & set(SHARED)
    for group, model in groups.items():
        assert_complete(document[group], model, group)


def test_what_names_an_object_s_stage_is_the_stage_s_name() -> None:
    assert all(name == stage.name for name, stage in STAGES.items())
    for stage in STAGES.values():
        assert set(stage.trained) <= set(stage.outputs) and ("trained" in stage.outputs) == bool(stage.trained)
        assert stage.optional <= set(stage.inputs)
        assert {*stage.metrics, *stage.plots} <= set(stage.outputs)


@pytest.mark.parametrize("layout", SHIPPED, ids=lambda layout: layout.name)
def test_a_detector_can_run_analyses_that_its_file_does_not_have(layout: Layout) -> None:
    node = nodes_of(layout, load_params(layout))["diagnose"]
    assert node.outputs["html"] == f"reports/{layout.name}/analysis/diagnosis.html"
    assert node.inputs["detections"] == f"artifacts/detectors/{layout.name}/combine/manifest.json"
    assert "diagnose" not in yaml.safe_load(FILES[f"detectors/{layout.name}/dvc.yaml"])["stages"]
    nodes = nodes_of(layout, load_params(layout))
    assert ("units" in nodes) == ("features" in nodes) == (layout.name == "sppnet")
    if "units" in nodes:
        assert nodes["units"].outputs == {"html": f"reports/{layout.name}/analysis/units.html"}


def test_an_analysis_finds_the_dataset_from_its_own_folder() -> None:
    document = yaml.safe_load(dvc_files.analysis_text())
    assert document["vars"] == ["../params.yaml:dataset"]
    assert list(document["stages"]) == ["diagnose", "units"]
    assert {one["wdir"] for one in document["stages"].values()} == {".."}
    assert document["stages"]["units"]["params"] == ["units", "svm.layer"]
