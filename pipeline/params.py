"""params.yaml, the root's and a detector's, parsed once into strict, frozen settings."""

import copy
import re
import reprlib
import types
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError, create_model

from cache.errors import ParamsError
from cache.text import nearest
from manifests.text import is_text_to_yaml
from stages.graph import ANALYSIS, CLASSIFICATION, COMPARISON, HEAD, KINDS, ROOT, SEGMENTATION, Kind
from stages.settings import Parameters, Settings

from .detectors import Layout, kind_named

DATASET_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxlist, _REPR.maxdict, _REPR.maxstring, _REPR.maxother = 2, 20, 20, 200, 200


class ExecutionSettings(Settings):
    """How the work is spread; no result depends on it."""

    backend: Literal["local", "dask"] = Field(
        "local",
        description="where proposals, features and detections are computed: local: threads of this process; dask: "
        "processes, on several GPUs or machines (docs/dask.md)",
    )
    scheduler: str | None = Field(
        None,
        pattern=r"^[a-z]+://\S+$",
        description="with backend dask: address of a running scheduler, e.g. tcp://10.0.0.1:8786, whose workers are "
        "used; null: start a cluster on this machine, of one process per core, or per GPU where a network runs",
    )
    workers: int = Field(
        0,
        ge=0,
        le=1024,
        description="threads, or processes of a started cluster; 0: one per core that the process may use (per GPU: "
        "of a started cluster where a network runs)",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where networks run; auto: cuda where there is one (bits may differ: see store.environment)"
    )


class StoreSettings(Settings):
    """Where cached objects live."""

    root: str = Field(
        "artifacts",
        min_length=1,
        description="folder of the store, relative to the project, or an s3://, gs:// or abfs:// URL; RCNN_STORE in "
        "the environment overrides it",
    )
    environment: Literal["record", "key"] = Field(
        "record",
        description="where the versions of the libraries and the device that compute an object are named: record: in "
        "the object, whose key does not depend on them; key: in its key, too, so that each environment computes its "
        "own (docs/store.md)",
    )


class Params(Settings):
    """A detector's parameters: these, and its groups (see ``schema``)."""

    dataset: str = Field(
        "scenes",
        pattern=f"^{DATASET_NAME}$",
        description="name of a dataset imported by `rcnn dataset import`, or the built-in `scenes`",
    )
    seed: int = Field(3, ge=0, lt=2**32, description="of everything that is drawn; the authors' code has 3 too")
    execution: ExecutionSettings = ExecutionSettings()
    store: StoreSettings = StoreSettings()

    @property
    def groups(self) -> Parameters:
        """The stages' groups."""
        own = set(Params.model_fields)
        return Parameters({name: getattr(self, name) for name in type(self).model_fields if name not in own})


# Tasks of the root's detector: nobody else's file has their parameters.
_ROOT_TASKS = (*CLASSIFICATION, *SEGMENTATION, *COMPARISON)
# These stand in the root's file alone, and are every detector's.
SHARED = (*Params.model_fields, *(group for one in (*HEAD, *ANALYSIS) for group in one.stage.settings))


def own_groups(kind: Kind) -> dict[str, type[Settings]]:
    """Return the groups of a kind's own stages, in running order, by name."""
    groups: dict[str, type[Settings]] = dict(kind.settings)
    for one in kind.places:
        for name, model in one.stage.settings.items():
            if name in SHARED or groups.get(name, model) is not model:
                raise TypeError(f"parameter group {name!r} has two owners; the second is stage {one.stage.name!r}")
            groups[name] = model
    return groups


@cache
def schema(kind_name: str = ROOT) -> type[Params]:
    """Return the model of a detector's parameters: the shared ones, and each group of its own stages.

    The root's holds those of classification and of the comparison, too.
    """
    fields: dict[str, Any] = {}
    models = {group: model for one in HEAD for group, model in one.stage.settings.items()} | own_groups(
        KINDS[kind_name]
    )
    if kind_name == ROOT:
        models |= {group: model for one in _ROOT_TASKS for group, model in one.stage.settings.items()}
    models |= {group: model for one in ANALYSIS for group, model in one.stage.settings.items()}
    for group, model in models.items():
        fields[group] = (model, Field(default_factory=model))
    made: type[Params] = create_model("Params", __base__=Params, **fields)
    return made


def load_params(layout: Layout) -> Params:
    """Read and check a detector's parameters; :class:`ParamsError` lists every problem, one line each."""
    shared = _document(layout.project / "params.yaml")
    if layout.is_root:
        return parse_params(shared, str(layout.params_file))
    own, source = _document(layout.params_file), str(layout.params_file)
    kind = kind_named(own.pop("kind", None), source)
    problems = list(_misplaced(own, kind, source))
    if problems:
        raise ParamsError("\n".join(problems))
    known = {name: value for name, value in shared.items() if name in SHARED}
    return parse_params({**known, **own}, source, kind, str(layout.project / "params.yaml"))


def read_kind(layout: Layout) -> Kind:
    """Return the kind of a detector, of whose parameters nothing else need be right."""
    if layout.is_root:
        return KINDS[ROOT]
    return kind_named(_document(layout.params_file).get("kind"), str(layout.params_file))


def _misplaced(own: Mapping[str, Any], kind: Kind, source: str) -> Iterator[str]:
    """Tell of each group that belongs into another file."""
    others = {group: other.name for other in KINDS.values() for group in own_groups(other)}
    for name in own:
        if name in SHARED:
            yield f"{source}: {name} is every detector's and stands in the project's own params.yaml; move it there"
        elif name not in own_groups(kind) and name in others:
            yield f"{source}: group {name} is of kind {others[name]}, and this detector of kind {kind.name}; remove it"


def _document(path: Path) -> dict[str, Any]:
    """Read a params.yaml: a mapping, empty where the file is."""
    try:
        text, misread = _with_quoted_dataset(path.read_text(encoding="utf-8"))
        document = copy.deepcopy(_parsed(text))
    except FileNotFoundError:
        raise ParamsError(f"{path}: not found; run from the project's folder, where dvc.yaml is") from None
    except yaml.MarkedYAMLError as error:
        raise ParamsError(_no_yaml(path, error)) from None
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:  # ValueError: no UTF-8, or no such date
        raise ParamsError(f"{path}: cannot be read: {' '.join(str(error).split())}; mend the file") from None
    if misread is not None:
        without = f"YAML does not read {misread} without quotes as a name"
        raise ParamsError(f'{path}: dataset: {without}; put quotes: dataset: "{misread}"')
    document = {} if document is None else document
    if not isinstance(document, dict):
        raise ParamsError(f"{path}: must be a mapping of parameter groups, found {type(document).__name__}")
    return document


@lru_cache(maxsize=64)
def _parsed(text: str) -> Any:
    """Parse YAML once per text, which takes PyYAML 20 ms; not to be changed."""
    return yaml.safe_load(text)


_UNQUOTED_DATASET = re.compile(rf"^(dataset:[ \t]*)({DATASET_NAME})(?=[ \t]*(?:#.*)?\r?$)", re.MULTILINE)


def _with_quoted_dataset(text: str) -> tuple[str, str | None]:
    """The text with quotes around the dataset's name, and the name, where YAML takes it for another thing: ``007``.

    Such are numbers, dates, and words such as ``no``, to this program or to DVC; else the text as it is, and None.
    """
    found = _UNQUOTED_DATASET.search(text)
    if found is None or is_text_to_yaml(found[2]):
        return text, None
    return f'{text[: found.start()]}{found[1]}"{found[2]}"{text[found.end() :]}', found[2]


def _no_yaml(path: Path, error: yaml.MarkedYAMLError) -> str:
    """Where the file stops being YAML, and what the parser expected there."""
    mark, start = error.problem_mark or error.context_mark, error.context_mark
    where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    begun = f" that begins in line {start.line + 1}" if start and mark and start.line < mark.line else ""
    said = ": ".join(text for text in (error.context and f"{error.context}{begun}", error.problem) if text)
    return f"{path}{where}: is not YAML: {' '.join(said.split())}; mend the file"


def parse_params(
    document: Any, source: str = "params.yaml", kind: Kind = KINDS[ROOT], shared_source: str = ""
) -> Params:
    """Check an already parsed document (a mapping of group to mapping).

    Args:
        source: the file, for messages.
        shared_source: the file of what all detectors share, where it is another.
    """
    if not isinstance(document, Mapping):
        raise ParamsError(f"{source}: must be a mapping of parameter groups, found {type(document).__name__}")
    files = dict.fromkeys(SHARED, shared_source or source)
    model = schema(kind.name)
    try:
        params = model.model_validate(document)
    except ValidationError as error:
        raise ParamsError("\n".join(_explain(files, source, p, model) for p in _told(error.errors()))) from None
    problems = list(dict.fromkeys(_contradictions(params, kind)))  # a stage may stand in several places
    if problems:
        raise ParamsError("\n".join(f"{source}: {problem}" for problem in problems))
    return params


def _contradictions(params: Params, kind: Kind) -> Iterator[str]:
    """Tell what no single parameter can see, before anything is computed."""
    if params.execution.scheduler is not None and params.execution.backend != "dask":
        yield "execution.scheduler: is used by backend dask only; set execution.backend to dask, or scheduler to null"
    groups = params.groups
    for one in (*kind.places, *(_ROOT_TASKS if kind.name == ROOT else ())):
        if one.stage.check is not None:
            yield from one.stage.check(groups)


def _told(problems: Sequence[Any]) -> list[Any]:
    """Drop errors that are mere consequences: if an entry of a list is invalid, pydantic also calls it too short."""
    inner = {tuple(p["loc"][:n]) for p in problems for n in range(len(p["loc"]))}
    return [p for p in problems if p["type"] != "too_short" or tuple(p["loc"]) not in inner]


def _explain(files: Mapping[str, str], own: str, problem: Any, model: type[BaseModel]) -> str:
    location = [text for part in problem["loc"] if (text := str(part)).strip()]  # without RateDrops' tags
    name = ".".join(location)
    source = files.get(location[0], own) if location else own
    if problem["type"] == "extra_forbidden":
        key = str(problem["loc"][-1])
        above = location[:-1] if key.strip() else location  # a key of blanks is none of them
        known = _keys_at(model, above)
        hint = nearest(key, known) or f"; known there: {', '.join(sorted(known))}"
        return f"{source}: unknown parameter {'.'.join([*above, key])!r}{hint}"
    if problem["type"] == "value_error":  # of a whole group: its message names the parameters
        return f"{source}: {name}: {problem['ctx']['error']}"
    message = (problem["msg"][0].lower() + problem["msg"][1:]).replace("valid tuple", "list").replace("tuple", "list")
    if problem["type"] == "literal_error":
        message += nearest(_shown(problem["input"]).strip("'"), re.findall(r"'([^']+)'", problem["ctx"]["expected"]))
    return f"{source}: {name} = {_shown(problem['input'])}: {message}"


def _shown(value: Any) -> str:
    """A value for a message, cut: YAML's aliases make a text of gigabytes out of a few lines."""
    try:
        return _REPR.repr(value)
    except ValueError:  # an integer of more digits than Python converts
        return f"a number of {value.bit_length()} bits"


def _keys_at(model: type[BaseModel], location: list[str]) -> list[str]:
    """Names of the fields of the settings model at a dotted location."""
    current: Any = model
    for part in location:
        field = getattr(current, "model_fields", {}).get(part)
        current = _model_in(field.annotation) if field is not None else current
    return list(getattr(current, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    """The settings model inside an annotation such as ``Model | None``."""
    if get_origin(annotation) in (Union, types.UnionType, Annotated, Literal):
        return next((a for a in get_args(annotation) if hasattr(a, "model_fields")), None)
    return annotation
