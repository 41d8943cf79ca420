"""The stage graph: which stages there are, in the order in which they run.

``STAGE_NAMES`` are the detector's, of dvc.yaml; classification begins after ``pretrain`` and has a file of its own.
"""

import importlib
from functools import cache
from types import MappingProxyType

from stages.common.contract import Stage

from .errors import ParamsError
from .nearest import nearest

STAGE_NAMES = (
    "scenes",
    "manifest",
    "proposals",
    "pretrain",
    "finetune",
    "features",
    "svm",
    "bbox",
    "detect",
    "combine",
    "evaluate",
    "report",
)
CLASSIFICATION_STAGE_NAMES = ("classify", "classify_svm")  # of classification/dvc.yaml
ALL_STAGE_NAMES = (*STAGE_NAMES, *CLASSIFICATION_STAGE_NAMES)


@cache
def load_stage(name: str) -> Stage:
    """The declaration of one stage; :class:`ParamsError` names the nearest stage for a misspelt one."""
    if name not in ALL_STAGE_NAMES:
        raise ParamsError(
            f"there is no stage {name!r}{nearest(name, ALL_STAGE_NAMES)}; stages: {', '.join(ALL_STAGE_NAMES)}"
        )
    stage: Stage = importlib.import_module(f"stages.{name}.stage").STAGE
    return stage


@cache
def all_stages() -> MappingProxyType[str, Stage]:
    """Every stage by name, in running order."""
    return MappingProxyType({name: load_stage(name) for name in ALL_STAGE_NAMES})
