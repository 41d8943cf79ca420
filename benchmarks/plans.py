"""A cell of a grid on a project: its settings checked as the pipeline will check them, and what is to be run."""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from dvc.exceptions import DvcException
from dvc.utils.hydra import apply_overrides
from omegaconf.errors import OmegaConfBaseException

from benchmarks.tables.grid import Cell, Grid
from cache.errors import ParamsError
from cache.text import nearest
from pipeline.detectors import Layout, detector_names
from pipeline.dvc_files import detector_text
from pipeline.graph import nodes_of, passed_nodes
from pipeline.params import load_params, read_kind
from stages.graph import ROOT

More = Sequence[tuple[str, str]]  # settings of ``--set``: where, and NAME=VALUE
_HYDRA_WORDS = {"null", "true", "false", "inf", "nan"}  # in any case no text


@dataclass(frozen=True)
class Setting:
    """A value of a parameter, as YAML reads it, in one file, whose path is below the project."""

    file: str
    name: str
    value: Any

    @property
    def for_dvc(self) -> str:
        """What ``dvc exp run -S`` takes."""
        return f"{'' if self.file == 'params.yaml' else f'{self.file}:'}{self.for_hydra}"

    @property
    def for_hydra(self) -> str:
        """What DVC makes of it for one file."""
        return f"{self.name}={hydra_form(self.value)}"


def hydra_form(value: Any) -> str:
    """Write a value of YAML in the grammar of Hydra's overrides, by which DVC reads ``-S``, so that it stays the same.

    Text is quoted where Hydra would make another thing of it: ``off`` is text there, ``a,b`` a sweep, ``a(1)`` an
    error. ParamsError where there is no such form.
    """
    if isinstance(value, list):
        return f"[{','.join(map(hydra_form, value))}]"
    if isinstance(value, str) and "${" not in value:
        return value if _is_plain(value) else _quoted(value)
    if value is None or isinstance(value, bool | int | float):
        return {"None": "null", "True": "true", "False": "false"}.get(repr(value), repr(value))
    raise ParamsError(f"{value!r} cannot be given to DVC; write it into params.yaml, or set names within one by one")


def _is_plain(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_/.-]*", text) is not None and text.lower() not in _HYDRA_WORDS


def _quoted(text: str) -> str:
    """Quote a text for Hydra: a quote within has a backslash before it, and backslashes before any are doubled."""
    return "'" + re.sub(r"(\\*)('|\Z)", lambda at: at[1] * 2 + ("\\'" if at[2] else ""), text) + "'"


@dataclass(frozen=True)
class Plan:
    """A cell of a grid on a project: what is run, and what is read after it.

    Attributes:
        target: the dvc.yaml, and the node within, that is run; "": all of the project's own.
        files: the text of each detector's dvc.yaml that is another with these settings, by path below the project.
        parameters: each params.yaml that is set, as DVC will leave it, by path below the project.
        detector: whose figures are read.
        scored: whether its detections are.
        nodes: those that a test image passes, each with whose it is.
        proposals: the list of their proposals, below the project.
    """

    row: str
    column: str
    settings: Sequence[Setting]
    target: str
    files: Mapping[str, str]
    parameters: Mapping[str, bytes]
    detector: str
    scored: bool
    nodes: Sequence[tuple[str, str]]
    proposals: str

    @property
    def changed(self) -> dict[str, bytes]:
        """Every file that is another while the cell runs."""
        return {**self.parameters, **{file: text.encode() for file, text in self.files.items()}}


def settings_of(cell: Cell, row: str, column: str, more: More = ()) -> list[str]:
    """Return a cell's settings, those of ``more`` that reach it over the grid's own."""
    settings = [*cell.settings, *_reaching(cell, row, column, more)]
    return list({setting.partition("=")[0]: setting for setting in settings}.values())


def _reaching(cell: Cell, row: str, column: str, more: More) -> list[str]:
    where = {"all", row, column, *cell.scopes}
    return [setting for scope, setting in more if scope in where]


def planned(
    project: Path, grid: Grid, place: tuple[str, str], rows: Sequence[str], more: More, detectors: Mapping[str, str]
) -> Plan:
    """Check one cell as the pipeline will check it, and say what is to be run.

    Args:
        place: its row and its column.
        rows: all that are run.
        detectors: the project's detector in a role, where it is not the one of that name.

    Raises ParamsError, one line for each thing that is wrong; nothing of the project has changed.
    """
    cell = grid.cell(*place, rows)
    named = {role: detectors.get(role, role) for role in {cell.detector, *grid.roles}}
    written = settings_of(cell, *place, more)
    _check_roles(project, grid, cell, written, named)
    settings = [_placed(setting, named) for setting in written]
    with TemporaryDirectory() as folder:
        trial, at = Path(folder), Layout(Path(folder), named[cell.detector])
        try:
            _copy_parameters(project, trial)
            owners = list(dict.fromkeys([at.name, *map(_owner, settings)]))
            for of in owners:
                load_params(Layout(trial, of))  # so that what is wrong without the grid's settings is told first
            parameters = change(trial, settings)
            _check_needs(trial, cell, place, more)
            params = {of: load_params(Layout(trial, of)) for of in owners}
            nodes = nodes_of(at, params[at.name])
            passed = [] if cell.target else [(of.name, node) for of, node in passed_nodes(at, params[at.name])]
            texts = {
                f"detectors/{of}/dvc.yaml": detector_text(Layout(trial, of), params[of]) for of in params if of != ROOT
            }
        except ParamsError as error:
            raise ParamsError(str(error).replace(folder, str(project))) from None
    file = "" if at.is_root else f"detectors/{at.name}/dvc.yaml"
    return Plan(
        *place,
        settings,
        target=":".join(part for part in (file, cell.target) if part),
        files={path: text for path, text in texts.items() if not _is(project / path, text)},
        parameters=parameters,
        detector=at.name,
        scored=not cell.target,
        nodes=passed,
        proposals=nodes[cell.target].outputs["manifest"] if cell.target else nodes["evaluate"].inputs["proposals"],
    )


def _check_roles(project: Path, grid: Grid, cell: Cell, written: Sequence[str], named: Mapping[str, str]) -> None:
    """ParamsError where a detector that the cell is of, sets or names is not there, or of another kind."""
    there = detector_names(project)
    for setting in written:
        owner = _name_of(setting)[0]
        if owner not in (ROOT, *named):
            raise ParamsError(
                f"{setting}: there is no role {owner!r}{nearest(owner, named)}; roles: {', '.join(named)}"
            )
    used = [cell.detector, *(_name_of(setting)[0] for setting in written)]
    used += [role for role in named for setting in written if f"{{{role}}}" in setting]
    for role in dict.fromkeys(used):
        kind, name = grid.roles.get(role), named.get(role, ROOT)
        if name not in there:
            how = f"`rcnn detector add {name} --kind {kind or 'KIND'}` makes one, --detector {role}=NAME takes another"
            raise ParamsError(f"{project}: has no detector {name!r}; {how}")
        if kind is not None and (found := read_kind(Layout(project, name)).name) != kind:
            raise ParamsError(f"{project}: {name} is of kind {found}; {grid.name} takes a {role} of kind {kind}")


def _name_of(setting: str) -> tuple[str, str]:
    """Whose parameter ``[ROLE/]NAME=VALUE`` is, and its name."""
    name = setting.partition("=")[0]
    role, slash, own = name.partition("/")
    return (role, own) if slash else (ROOT, name)


def _placed(setting: str, named: Mapping[str, str]) -> Setting:
    """Say where a setting stands, names of detectors in the place of their roles'."""
    role, name = _name_of(setting)
    value = setting.partition("=")[2]
    for one, detector in named.items():
        value = value.replace(f"{{{one}}}", detector)
    file = "params.yaml" if role == ROOT else f"detectors/{named[role]}/params.yaml"
    try:
        made = Setting(file, name, yaml.safe_load(value))
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: no such date
        raise ParamsError(f"{name}={value}: the value is not YAML; mend --set") from None
    try:
        hydra_form(made.value)
    except ParamsError as error:
        raise ParamsError(f"{setting}: {error}") from None
    return made


def _owner(setting: Setting) -> str:
    return ROOT if setting.file == "params.yaml" else setting.file.split("/")[1]


def _copy_parameters(project: Path, trial: Path) -> None:
    """Copy every params.yaml that there is: all that the pipeline's checks look at."""
    for path in [project / "params.yaml", *project.glob("detectors/*/params.yaml")]:
        if path.is_file():  # else told by who reads it
            copy = trial / path.relative_to(project)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def change(trial: Path, settings: Sequence[Setting]) -> dict[str, bytes]:
    """Set parameters by DVC's own means, and return each file as that leaves it.

    ParamsError where one does not stand in its file, or does not read there afterwards as it was given: DVC writes
    YAML 1.2, in which 1e-05 is a number and off is text, and it is read as YAML 1.1.
    """
    by_file: dict[str, list[Setting]] = {}
    for setting in settings:
        by_file.setdefault(setting.file, []).append(setting)
    for file, of_file in by_file.items():
        path = trial / file
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        for setting in of_file:
            if _value(document, setting.name) is _ABSENT:
                what = f"has no {setting.name} to be set; add it (`rcnn params` lists what there is)"
                raise ParamsError(f"{path}: {what}")
        try:
            apply_overrides(path, [setting.for_hydra for setting in of_file])
            changed = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (DvcException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
            names = ", ".join(setting.for_dvc for setting in of_file)
            raise ParamsError(f"{path}: DVC cannot set {names}: {' '.join(str(error).split())}") from None
        for setting in of_file:
            found = _value(changed, setting.name)
            if repr(found) != repr(setting.value):
                raise ParamsError(
                    f"{path}: {setting.name} = {setting.value!r} would read as {found!r} after DVC has written it; "
                    "write it into the file"
                )
    return {file: (trial / file).read_bytes() for file in by_file}


_ABSENT = object()


def _value(document: Any, name: str) -> Any:
    """Return a parameter by its dotted name, or ``_ABSENT``."""
    for key in name.split("."):
        if not isinstance(document, dict) or key not in document:
            return _ABSENT
        document = document[key]
    return document


def _check_needs(trial: Path, cell: Cell, place: tuple[str, str], more: More) -> None:
    """ParamsError for what only the user can say, and has not."""
    said = {setting.partition("=")[0] for setting in _reaching(cell, *place, more)}
    document = yaml.safe_load((trial / "params.yaml").read_text(encoding="utf-8"))
    for need in cell.needs:
        value = _value(document, need.name)
        if need.name not in said and (need.anew or value is _ABSENT or not value):
            raise ParamsError(
                f"{trial / 'params.yaml'}: row {place[0]}: {need.why}: --set {place[0]}:{need.name}=VALUE, or leave "
                "the row out (--rows)"
            )


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()
