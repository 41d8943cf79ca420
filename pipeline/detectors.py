"""A project's detectors: their names, their kinds, and where the files of each lie.

The root's params.yaml and dvc.yaml are R-CNN's; every folder ``detectors/NAME`` with a params.yaml is one more.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.errors import ParamsError
from cache.text import nearest
from stages.graph import ANALYSIS, CLASSIFICATION, HEAD, KINDS, ROOT, SEGMENTATION, STAGES, Kind

FOLDER = "detectors"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Layout:
    """Where one detector of a project has its files."""

    project: Path
    name: str = ROOT

    @property
    def is_root(self) -> bool:
        """Whether it is the project's own R-CNN."""
        return self.name == ROOT

    @property
    def folder(self) -> Path:
        """Where its params.yaml and dvc.yaml are."""
        return self.project if self.is_root else self.project / FOLDER / self.name

    @property
    def params_file(self) -> Path:
        """Its parameters."""
        return self.folder / "params.yaml"

    @property
    def dvc_file(self) -> Path:
        """Its stages, as DVC knows them."""
        return self.folder / "dvc.yaml"

    @property
    def artifacts(self) -> Path:
        """What its stages hand on: one small folder per node."""
        return self.project / "artifacts" if self.is_root else self.project / "artifacts" / FOLDER / self.name

    @property
    def reports(self) -> Path:
        """What people look at."""
        return self.project / "reports" if self.is_root else self.project / "reports" / self.name

    def lock_name(self, node: str) -> str:
        """Name the lock that a run of one of its nodes holds; the shared head has one for all detectors."""
        return node if self.is_root or node in {one.name for one in HEAD} else f"{self.name}.{node}"

    def checkpoints(self, node: str) -> Path:
        """Where a node's unfinished trainings lie."""
        return self.artifacts / "checkpoints" / node


def detector_names(project: Path) -> list[str]:
    """Return the names of a project's detectors: the root's first, the others sorted."""
    return [ROOT, *sorted(path.parent.name for path in (project / FOLDER).glob("*/params.yaml"))]


def check_new_name(project: Path, name: str) -> None:
    """ParamsError unless a new detector can have this name.

    A stage's name would read as that stage in a command; that of a kind (``fast``, ``joint``, which are stages too) is
    what the project's own detector of it is called, and can be had again once that is removed.
    """
    if not _NAME.fullmatch(name):
        raise ParamsError(f"detector name {name!r}: use letters, digits, '_', '-', at most 64, the first no sign")
    tasks = (*CLASSIFICATION, *SEGMENTATION, *ANALYSIS)
    nodes = {one.name for kind in KINDS.values() for one in (*HEAD, *kind.places, *tasks)}
    reserved = {*nodes, *STAGES, "comparison", "analysis", "grids", "plots", "results"} - KINDS.keys()
    if name in reserved or name.lower() in {"artifacts", "checkpoints", "detectors"}:
        raise ParamsError(f"detector name {name!r}: is a stage's or a folder's; choose another")
    if name == ROOT or (project / FOLDER / name).exists():
        raise ParamsError(f"detector name {name!r}: is taken; `rcnn detector ls` lists those there are")


def layout_of(project: Path, name: str) -> Layout:
    """Return where the detector's files lie; ParamsError naming those there are, where there is no such."""
    names = detector_names(project)
    if name not in names:
        raise ParamsError(
            f"there is no detector {name!r}{nearest(name, names)}; there are: {', '.join(names)}; "
            "`rcnn detector add NAME --kind KIND` makes one"
        )
    return Layout(project, name)


def kind_named(name: Any, source: str) -> Kind:
    """Return the kind that a params.yaml names; ``source`` is for the message of the ParamsError."""
    if name is None:
        raise ParamsError(f"{source}: does not say which kind of detector it is; add `kind:` and one of {_kinds()}")
    if not isinstance(name, str) or name not in KINDS:
        raise ParamsError(f"{source}: kind = {name!r}: there is no such kind{nearest(str(name), KINDS)}; {_kinds()}")
    return KINDS[name]


def _kinds() -> str:
    return f"kinds: {', '.join(KINDS)}"
