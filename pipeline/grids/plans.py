"""A cell of a grid on a project: its settings checked as the pipeline will check them, and what is to be run."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from cache.errors import ParamsError
from cache.text import nearest
from pipeline.detectors import Layout, detector_names
from pipeline.dvc_files import detector_text
from pipeline.graph import nodes_of, passed_nodes
from pipeline.params import Params, load_params, read_kind
from stages.contract import Node
from stages.graph import PROPOSALS, PROPOSE, ROOT, SEGMENT_EVALUATE

from .declared import Cell, CellName, Given, Grid
from .origins import CellOrigin, origin_of
from .setting import ABSENT, Setting, change, hydra_form, value_of

More = Sequence[tuple[str, Given]]  # settings of ``--set``: of which rows, columns or cells, and what


class WhatIsScored(Enum):
    """What a cell is run for: whose figures it has."""

    DETECTIONS = "detections"
    PROPOSALS = "proposals"
    SEGMENTATION = "segmentation"

    @classmethod
    def at(cls, target: str) -> "WhatIsScored":
        """Say what is measured of a cell that is run up to ``target``; "": all."""
        if not target:
            return cls.DETECTIONS
        return cls.SEGMENTATION if target == SEGMENT_EVALUATE.name else cls.PROPOSALS


@dataclass(frozen=True)
class Plan:
    """A cell of a grid on a project: what is run, and what is read after it.

    Attributes:
        target: the dvc.yaml, and the node within, that is run; "": all of the project's own.
        files: the text of each detector's dvc.yaml that is another with these settings, by path below the project.
        parameters: each params.yaml that is set, as DVC will leave it, by path below the project.
        detector: whose figures are read.
        measured: what its figures are of.
        nodes: those that a test image passes, each with whose it is.
        proposals: the list of the proposals that they are made from, below the project.
        origin: what its figures depend on.
        more: what ``--set`` sets in it, as it was given; roles: detectors that are not those of their role's name.
    """

    cell: CellName
    settings: Sequence[Setting]
    target: str
    files: Mapping[str, str]
    parameters: Mapping[str, bytes]
    detector: str
    measured: WhatIsScored
    nodes: Sequence[tuple[str, str]]
    proposals: str
    origin: CellOrigin
    more: Mapping[str, Any] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)

    @property
    def changed(self) -> dict[str, bytes]:
        """Every file that is another while the cell runs."""
        return {**self.parameters, **{file: text.encode() for file, text in self.files.items()}}


def settings_of(cell: Cell, row: str, column: str, more: More = ()) -> list[Given]:
    """Return a cell's settings, those of ``more`` that reach it over the grid's own."""
    given = [*cell.settings, *_reaching(cell, row, column, more)]
    return list({one.name: one for one in given}.values())


def _reaching(cell: Cell, row: str, column: str, more: More) -> list[Given]:
    where = {"all", row, column, *cell.scopes}
    return [one for scope, one in more if scope in where]


def planned(project: Path, grid: Grid, name: CellName, more: More, detectors: Mapping[str, str]) -> Plan:
    """Check one cell as the pipeline will check it, and say what is to be run.

    Args:
        detectors: the project's detector in a role, where it is not the one of that name.

    Raises ParamsError, one line for each thing that is wrong; nothing of the project has changed.
    """
    cell = grid.cell(name.row, name.column)
    named = {role: detectors.get(role, role) for role in {cell.detector, *grid.roles}}
    given = settings_of(cell, name.row, name.column, more)
    if name.seed is not None:
        given.append(Given("seed", name.seed, f"{grid.source}: seeds"))
    _check_roles(project, grid, cell, given, named)
    settings = [_placed(one, named) for one in given]
    with TemporaryDirectory() as folder:
        try:
            _copy_parameters(project, Path(folder))
            found = _tried(project, Layout(Path(folder), named[cell.detector]), grid, cell, settings, name, more)
        except ParamsError as error:
            raise ParamsError(str(error).replace(folder, str(project))) from None
    reaching = _reaching(cell, name.row, name.column, more)
    others = {role: detector for role, detector in named.items() if role != detector}
    return replace(found, more={one.name: one.value for one in reaching}, roles=others)


def _tried(
    project: Path, at: Layout, grid: Grid, cell: Cell, settings: Sequence[Setting], name: CellName, more: More
) -> Plan:
    """Set a cell's parameters in a copy of them, where ``at`` is the detector that it is of, and say what they make."""
    trial = at.project
    owners = list(dict.fromkeys([at.name, *(one.owner for one in settings)]))
    for of in owners:
        load_params(Layout(trial, of))  # so that what is wrong without the grid's settings is told first
    parameters = change(trial, settings)
    _check_needs(trial, cell, name, more)
    params = _checked(trial, owners, settings)
    nodes = nodes_of(at, params[at.name])
    _check_target(grid, cell, nodes)
    passed = [] if cell.target else [(of.name, node) for of, node in passed_nodes(at, params[at.name])]
    texts = {f"detectors/{of}/dvc.yaml": detector_text(Layout(trial, of), params[of]) for of in params if of != ROOT}
    what = WhatIsScored.at(cell.target)
    file = "" if at.is_root else f"detectors/{at.name}/dvc.yaml"
    if what is WhatIsScored.SEGMENTATION:
        file = "segmentation/dvc.yaml"
    return Plan(
        name,
        settings,
        target=":".join(part for part in (file, cell.target) if part),
        files={path: text for path, text in texts.items() if not _is(project / path, text)},
        parameters=parameters,
        detector=at.name,
        measured=what,
        nodes=passed,
        proposals=_proposals(nodes[cell.target or "evaluate"]),
        origin=origin_of(project, at, cell.target or "evaluate"),
    )


def _checked(trial: Path, owners: Sequence[str], settings: Sequence[Setting]) -> dict[str, Params]:
    """Load the parameters as they are set; what is wrong names what set it, too."""
    try:
        return {of: load_params(Layout(trial, of)) for of in owners}
    except ParamsError as error:
        lines = []
        for line in str(error).splitlines():
            by = [one.where for one in settings if f" {one.name} = " in line or f"{one.name!r}" in line]
            lines.append(f"{line} (set by {by[0]})" if by else line)
        raise ParamsError("\n".join(lines)) from None


def _proposals(node: Node) -> str:
    """Return the list of the proposals that a node makes or, where it makes none, reads."""
    return node.outputs["manifest"] if node.stage in (PROPOSALS, PROPOSE) else node.inputs["proposals"]


def _check_target(grid: Grid, cell: Cell, nodes: Mapping[str, Node]) -> None:
    """ParamsError unless the node up to which a cell is run makes proposals, or scores a segmentation."""
    known = [name for name, node in nodes.items() if node.stage in (PROPOSALS, PROPOSE, SEGMENT_EVALUATE)]
    if cell.target and cell.target not in known:
        raise ParamsError(
            f"{grid.source}: target: {cell.target!r} has no figures{nearest(cell.target, known)}; of "
            f"{cell.detector} these have: {', '.join(known)}"
        )


def _check_roles(project: Path, grid: Grid, cell: Cell, given: Sequence[Given], named: Mapping[str, str]) -> None:
    """ParamsError where a detector that the cell is of, sets or names is not there, or of another kind."""
    there = detector_names(project)
    for one in given:
        owner = _name_of(one)[0]
        if owner not in (ROOT, *named):
            known = ", ".join(named)
            raise ParamsError(f"{one.where}: {one.name}: there is no role {owner!r}{nearest(owner, named)}; {known}")
    used = [cell.detector, *(_name_of(one)[0] for one in given)]
    used += [role for role in named for one in given if f"{{{role}}}" in str(one.value)]
    for role in dict.fromkeys(used):
        kind, name = grid.roles.get(role), named.get(role, ROOT)
        if name not in there:
            how = f"`rcnn detector add {name} --kind {kind or 'KIND'}` makes one, --detector {role}=NAME takes another"
            raise ParamsError(f"{project}: has no detector {name!r}; {how}")
        if kind is not None and (found := read_kind(Layout(project, name)).name) != kind:
            raise ParamsError(f"{project}: {name} is of kind {found}; {grid.source} takes a {role} of kind {kind}")


def _name_of(one: Given) -> tuple[str, str]:
    """Whose parameter ``[ROLE/]NAME`` is, and its name."""
    role, slash, own = one.name.partition("/")
    return (role, own) if slash else (ROOT, one.name)


def _placed(one: Given, named: Mapping[str, str]) -> Setting:
    """Say where a setting stands, names of detectors in the place of their roles'."""
    role, name = _name_of(one)
    file = "params.yaml" if role == ROOT else f"detectors/{named[role]}/params.yaml"
    try:
        made = Setting(file, name, _with_names(one.value, named), one.where)
        hydra_form(made.value)
    except ParamsError as error:
        raise ParamsError(f"{one.where}: {one.name}: {error}") from None
    return made


def _with_names(value: Any, named: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_with_names(one, named) for one in value]
    for role, detector in named.items() if isinstance(value, str) else ():
        value = value.replace(f"{{{role}}}", detector)
    return value


def _copy_parameters(project: Path, trial: Path) -> None:
    """Copy every params.yaml that there is: all that the pipeline's checks look at."""
    for path in [project / "params.yaml", *project.glob("detectors/*/params.yaml")]:
        if path.is_file():  # else told by who reads it
            copy = trial / path.relative_to(project)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _check_needs(trial: Path, cell: Cell, name: CellName, more: More) -> None:
    """ParamsError for what only the user can say, and has not."""
    said = {one.name for one in _reaching(cell, name.row, name.column, more)}
    document = yaml.safe_load((trial / "params.yaml").read_text(encoding="utf-8"))
    for need in cell.needs:
        value = value_of(document, need.name)
        if need.name not in said and (need.anew or value is ABSENT or not value):
            raise ParamsError(
                f"{trial / 'params.yaml'}: row {name.row}: {need.why}: --set {name.row}:{need.name}=VALUE, or leave "
                "the row out (--rows)"
            )


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()
