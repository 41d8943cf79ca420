"""A parameter that a grid sets, so that YAML, by which it is checked, and DVC, which reads Hydra's grammar, agree."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from dvc.exceptions import DvcException
from dvc.utils.hydra import apply_overrides
from omegaconf.errors import OmegaConfBaseException

from cache.errors import ParamsError
from cache.text import nearest
from pipeline.detectors import Layout
from pipeline.params import read_kind
from pipeline.params_table import rows as all_parameters
from stages.graph import ROOT

_HYDRA_WORDS = {"null", "true", "false", "inf", "nan"}  # in any case no text
ABSENT = object()


@dataclass(frozen=True)
class Setting:
    """A parameter's value, as YAML reads it, in a file, whose path is below the project; ``where`` that is said."""

    file: str
    name: str
    value: Any
    where: str = field(default="", compare=False)

    @property
    def owner(self) -> str:
        """The detector whose file that is."""
        return ROOT if self.file == "params.yaml" else self.file.split("/")[1]

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
            if value_of(document, setting.name) is ABSENT:
                raise ParamsError(_absent(path, setting, trial))
        try:
            apply_overrides(path, [setting.for_hydra for setting in of_file])
            changed = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (DvcException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
            names = ", ".join(setting.for_dvc for setting in of_file)
            raise ParamsError(f"{path}: DVC cannot set {names}: {' '.join(str(error).split())}") from None
        for setting in of_file:
            found = value_of(changed, setting.name)
            if repr(found) != repr(setting.value):
                raise ParamsError(
                    f"{path}: {setting.name} = {setting.value!r} would read as {found!r} after DVC has written it; "
                    "write it into the file"
                )
    return {file: (trial / file).read_bytes() for file in by_file}


def _absent(path: Path, setting: Setting, trial: Path) -> str:
    """Word that a parameter does not stand in its file: there is none of that name, or only its line is missing."""
    known = [row.name for row in all_parameters(read_kind(Layout(trial, setting.owner)).name)]
    by = f"{setting.where}: " if setting.where else ""
    if setting.name in known:
        return (
            f"{by}{path} has no {setting.name} to be set; add it there (`rcnn params {setting.name}` says what it is)"
        )
    return f"{by}there is no parameter {setting.name!r}{nearest(setting.name, known)}; `rcnn params` lists them"


def value_of(document: Any, name: str) -> Any:
    """Return a parameter by its dotted name, or ``ABSENT``."""
    for key in name.split("."):
        if not isinstance(document, dict) or key not in document:
            return ABSENT
        document = document[key]
    return document
