"""What a cell was measured from: parameters, stages' versions, the dataset and files; kept to tell stale figures."""

import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from cache import digest_file
from pipeline.detectors import Layout
from pipeline.graph import nodes_of
from pipeline.params import SHARED, Params, load_params, read_kind, schema
from stages.contract import Node
from stages.graph import ROOT, SCENES

_DETECTORS = PurePath("artifacts/detectors")
_NOT_THERE = "nothing"


class CellOrigin(BaseModel):
    """What the figures of a cell depend on.

    Attributes:
        parameters: every one that a stage on the way to the figures reads, by ``[DETECTOR/]NAME``.
        versions: of those stages, by ``[DETECTOR/]NODE``.
        files: sha256 of the registered dataset and of each file that a parameter names, by path.
        defaults: of the parameters; not kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    parameters: dict[str, Any]
    versions: dict[str, int]
    files: dict[str, str]
    defaults: dict[str, Any] = Field(default_factory=dict, exclude=True)


def origin_of(project: Path, at: Layout, node: str) -> CellOrigin:
    """Look up what a node's result depends on.

    Args:
        project: where files are.
        at: whose node it is; its folder has the parameters, which may be a trial's.
    """
    ways = _Ways(at.project)
    found = dict(ways.leading_to(at.name, node))
    parameters, defaults = (
        {name: value for (owner, _), one in found.items() for name, value in ways.read(owner, one, values(owner))}
        for values in (ways.values, ways.defaults)
    )
    versions = {f"{_prefix(owner)}{name}": one.version for (owner, name), one in found.items()}
    return CellOrigin(
        parameters=parameters, versions=versions, files=dict(_files(project, parameters)), defaults=defaults
    )


def differences(then: CellOrigin, now: CellOrigin) -> list[str]:
    """Word what makes figures measured ``then`` stale ``now``; no line where nothing does.

    A parameter that there was not then had the value that is its default now: so a new one changes no result.
    """
    lines = []
    for name in {**then.parameters, **now.parameters}:
        before = then.parameters.get(name, now.defaults.get(name, _NOT_THERE))
        after = now.parameters.get(name, _NOT_THERE)
        if before != after:
            lines.append(f"{name} was {before}, is {after}")
    for name in {**then.versions, **now.versions}:
        if then.versions.get(name) != now.versions.get(name):
            lines.append(f"stage {name} is of another version")
    lines += [f"{path} is another" for path, digest in then.files.items() if now.files.get(path, digest) != digest]
    return lines


class _Ways:
    """The nodes of a project's detectors, each detector's looked up once it is met."""

    def __init__(self, project: Path) -> None:
        self._project = project
        self.params = functools.cache(self._params)
        self._nodes = functools.cache(self._nodes_of)
        self.values = functools.cache(self._values)
        self.defaults = functools.cache(self._defaults)

    def _params(self, owner: str) -> Params:
        return load_params(Layout(self._project, owner))

    def _values(self, owner: str) -> dict[str, Any]:
        """Return a detector's parameters as JSON, by group."""
        return self.params(owner).model_dump(mode="json")

    def _defaults(self, owner: str) -> dict[str, Any]:
        """Return what they would be if no file said anything."""
        return schema(read_kind(Layout(self._project, owner)).name)().model_dump(mode="json")

    def _nodes_of(self, owner: str) -> Mapping[str, Node]:
        return nodes_of(Layout(self._project, owner), self.params(owner))

    def leading_to(self, owner: str, name: str) -> Iterator[tuple[tuple[str, str], Node]]:
        """Yield a node, and every other whose output it reads, directly or through others; each once."""
        todo, seen = [(owner, name)], set()
        while todo:
            place = todo.pop()
            if place in seen:
                continue
            seen.add(place)
            node = self._nodes(place[0])[place[1]]
            yield place, node
            for path in node.inputs.values():
                todo += self._makers(path.replace("${dataset}", self.params(ROOT).dataset))

    def _makers(self, path: str) -> Iterator[tuple[str, str]]:
        read = PurePath(path)
        owner = read.relative_to(_DETECTORS).parts[0] if _DETECTORS in read.parents else ROOT
        for name, node in self._nodes(owner).items():
            made = [PurePath(one) for one in node.outputs.values()]
            if any(read == one or one in read.parents for one in made):
                yield owner, name

    def read(self, owner: str, node: Node, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield every parameter that a node reads, of a detector's ``values``, by its name in the project."""
        names = [*node.stage.parameters, *(["dataset"] if "registered" in node.inputs else [])]
        for name in names:
            group = name.partition(".")[0]
            prefix = "" if group in SHARED else _prefix(owner)
            value: Any = values
            for part in name.split("."):
                value = value[part]
            yield from _flat(f"{prefix}{name}", value)


def _prefix(owner: str) -> str:
    return "" if owner == ROOT else f"{owner}/"


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    else:
        yield name, value


def _files(project: Path, parameters: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the registered dataset's file, and each that a parameter names, with its digest.

    The built-in dataset is what its parameters make it, and its file that of whichever cell ran last.
    """
    dataset = parameters.get("dataset")
    named = [value for value in parameters.values() if isinstance(value, str)]
    registered = [] if dataset in (None, SCENES.name) else [_registered(dataset)]
    for path in dict.fromkeys([*registered, *named]):
        if os.path.isfile(project / path):  # noqa: PTH113 - false, too, for what can be no path
            yield path, _digest(project / path, (project / path).stat().st_mtime_ns)


def _registered(dataset: str) -> str:
    return f"artifacts/datasets/{dataset}/manifest.json"


# What the stages that read the files which parameters name depend on beside the groups that name these.
_READ_BESIDE = frozenset({"seed", "dataset", "scenes", "pretrain"})


def unwatched(origin: CellOrigin) -> dict[str, Any]:
    """Return what DVC does not see change of a cell: the files that parameters name; empty where there are none.

    With their digests, and with all parameters that the stages which read them depend on: results of others are no
    proof that DVC's are of these files.
    """
    registered = _registered(str(origin.parameters.get("dataset")))
    files = {path: digest for path, digest in origin.files.items() if path != registered}
    if not files:
        return {}
    groups = {_group(name) for name, value in origin.parameters.items() if isinstance(value, str) and value in files}
    read = {
        name: value
        for name, value in origin.parameters.items()
        if _group(name) in groups or _group(name).rpartition("/")[2] in _READ_BESIDE
    }
    return {"files": files, "parameters": read}


def _group(name: str) -> str:
    """Return a parameter's group, with its detector."""
    return name.partition(".")[0]


@functools.lru_cache(maxsize=256)
def _digest(path: Path, modified_ns: int) -> str:
    return digest_file(path)
