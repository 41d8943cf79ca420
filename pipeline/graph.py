"""A detector's nodes with the paths that they have in a project, and what leads to which."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from types import MappingProxyType

from cache.errors import ParamsError
from cache.text import nearest
from stages.contract import Node
from stages.detections.saved import detector_input
from stages.detections.settings import CombineSettings
from stages.fast.settings import SourceSettings
from stages.graph import (
    CLASSIFICATION,
    COMBINE,
    COMPARISON,
    HEAD,
    KINDS,
    OWN_PROPOSALS,
    PROPOSE,
    ROOT,
    SEGMENTATION,
    Kind,
    Place,
    analyses,
    at,
    place,
)

from .detectors import Layout, detector_names
from .params import Params, read_kind

_IMAGE_LISTS = ("manifest.json", "mirrored.json")  # what a stage calls the lists of its images' objects
_LISTS = (*_IMAGE_LISTS, "trained.json")  # and of the files that it trained
_LIST_FOLDERS = ("dense",)  # and folders of such lists


def is_object_list(path: str) -> bool:
    """Say whether an output is a list of images' objects."""
    return PurePath(path).name in _IMAGE_LISTS


def object_lists(outputs: Iterable[Path]) -> list[Path]:
    """Return the lists of objects that there are among stages' outputs, in the outputs' order."""
    found: list[Path] = []
    for path in outputs:
        if path.name in _LIST_FOLDERS:
            found += sorted(path.glob("*.json"))
        elif path.name in _LISTS and path.exists():
            found.append(path)
    return found


def places_of(kind: Kind, *, is_root: bool) -> tuple[Place, ...]:
    """Return what a detector of this kind runs, the shared head first, in running order."""
    return (*HEAD, *kind.places, *((*CLASSIFICATION, *SEGMENTATION, *COMPARISON) if is_root else ()), *analyses(kind))


def nodes_of(layout: Layout, params: Params) -> Mapping[str, Node]:
    """Return a detector's nodes by name, the shared head's first, in running order."""
    kind = read_kind(layout)
    regions = regions_of(layout, params)
    nodes = {one.name: at(one, layout.name, regions) for one in places_of(kind, is_root=layout.is_root)}
    if kind.detections is None:
        joined = params.groups.of("combine", CombineSettings).detectors
        nodes["combine"] = _joining(nodes["combine"], layout, joined)
    if layout.is_root:
        nodes["compare"] = comparing(detector_names(layout.project))
    return MappingProxyType(nodes)


def regions_of(layout: Layout, params: Params) -> SourceSettings | None:
    """Return whose proposals a detector takes, where its kind leaves that to a parameter.

    ParamsError naming the parameter where there is no such detector, or it has no such node.
    """
    if "regions" not in read_kind(layout).settings:
        return None
    found = params.groups.of("regions", SourceSettings)
    for parameter, source in found:
        if source != OWN_PROPOSALS:
            _check_source(layout, f"{layout.params_file}: regions.{parameter} = {source!r}", source)
    return found


def _check_source(layout: Layout, what: str, source: str) -> None:
    name, _, node = source.partition("/")
    others = [one for one in detector_names(layout.project) if one not in (ROOT, layout.name)]
    if name not in others:
        raise ParamsError(
            f"{what}: there is no other detector {name!r}{nearest(name, others)}; there are: "
            f"{', '.join(others) or 'none'}; or `{OWN_PROPOSALS}`, the project's"
        )
    kind = read_kind(Layout(layout.project, name))
    proposing = [one.name for one in kind.places if one.stage is PROPOSE]
    if node not in proposing:
        there = ", ".join(f"{name}/{one}" for one in proposing) or f"none, since it is of kind {kind.name}"
        raise ParamsError(f"{what}: {name} has no such proposals; it has: {there}")


def passed_nodes(layout: Layout, params: Params) -> list[tuple[Layout, str]]:
    """Return the nodes that a new image passes, in order, each with whose it is.

    What finds its regions is the shared head's, or another detector's where that one's proposals are taken.
    """
    kind, regions = read_kind(layout), regions_of(layout, params)
    own = {one.name for one in kind.places}
    passed = []
    for node in kind.test_nodes:
        if node in own:
            passed.append((layout, node))
        else:
            passed += _proposing(layout.project, OWN_PROPOSALS if regions is None else regions.test)
    return passed


def _proposing(project: Path, source: str) -> list[tuple[Layout, str]]:
    """Return the nodes that an image passes for the proposals that ``source`` names."""
    name, _, node = source.partition("/")
    if not node:
        return [(Layout(project), name)]
    of = Layout(project, name)
    proposing = next(one for one in read_kind(of).places if one.name == node)
    return [(of, one) for one in ([node] if "maps" in proposing.lacks else ["maps", node])]


def node_named(name: str, nodes: Mapping[str, Node]) -> Node:
    """Return one node; ParamsError names the nearest for a misspelt one."""
    if name not in nodes:
        raise ParamsError(f"there is no stage {name!r}{nearest(name, nodes)}; stages: {', '.join(nodes)}")
    return nodes[name]


def project_nodes(project: Path) -> list[Node]:
    """Return the nodes of all detectors of a project, whatever their parameters say; a broken detector's too.

    Inputs that depend on parameters (``combine.detectors``) are left out.
    """
    nodes = [at(one) for one in places_of(KINDS[ROOT], is_root=True)]
    for name in detector_names(project)[1:]:
        try:
            kind = read_kind(Layout(project, name))
        except ParamsError:
            continue
        nodes += [at(one, name) for one in (*kind.places, *analyses(kind))]
    return nodes


def nodes_before(name: str, nodes: Mapping[str, Node], dataset: str) -> list[str]:
    """Return the nodes whose outputs node ``name`` reads, directly or through others, in running order."""
    before: list[str] = []
    names = list(nodes)
    read = _paths(nodes[name].inputs, dataset)
    for earlier in reversed(names[: names.index(name)]):
        made = _paths(nodes[earlier].outputs, dataset)
        if any(path == one or one in path.parents for path in read for one in made):
            before.insert(0, earlier)
            read |= _paths(nodes[earlier].inputs, dataset)
    return before


def comparing(names: Sequence[str]) -> Node:
    """Return the node that compares these detectors: the lists of their detections are further inputs."""
    node = at(COMPARISON[0])
    lists = {detector_input(name): final_detections(name) for name in names}
    return Node(node.name, node.stage, {**node.inputs, **lists}, node.outputs)


def final_detections(name: str) -> str:
    """Return the path, below the project, of the list of a detector's detections after combining."""
    return at(place(COMBINE, lacks=COMBINE.optional), name).outputs["manifest"]


def _paths(files: Mapping[str, str], dataset: str) -> set[PurePath]:
    return {PurePath(path.replace("${dataset}", dataset)) for path in files.values()}


def _joining(combine: Node, layout: Layout, joined: tuple[str, ...]) -> Node:
    """Add the lists of those ``joined`` that are detectors of the project to what the node reads."""
    others = [name for name in joined if name in detector_names(layout.project) and name != layout.name]
    inputs = {detector_input(name): own_detections(layout.project, name) for name in others}
    return Node(combine.name, combine.stage, {**combine.inputs, **inputs}, combine.outputs)


def own_detections(project: Path, name: str) -> str:
    """Return the path, below the project, of the list of a detector's detections before any combining."""
    kind = read_kind(Layout(project, name))
    if kind.detections is None:
        raise ParamsError(
            f"combine.detectors: {name} is itself a combination, whose windows are suppressed already; name the "
            "detectors that it joins"
        )
    detecting = next(one for one in kind.places if one.name == kind.detections)
    return at(detecting, name).outputs["manifest"]
