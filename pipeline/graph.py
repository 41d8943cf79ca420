"""The stage graph: which stages there are, in the order in which they run."""

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


@cache
def load_stage(name: str) -> Stage:
    """The declaration of one stage; :class:`ParamsError` names the nearest stage for a misspelt one."""
    if name not in STAGE_NAMES:
        raise ParamsError(f"there is no stage {name!r}{nearest(name, STAGE_NAMES)}; stages: {', '.join(STAGE_NAMES)}")
    stage: Stage = importlib.import_module(f"stages.{name}.stage").STAGE
    return stage


@cache
def all_stages() -> MappingProxyType[str, Stage]:
    """Every stage by name, in running order."""
    return MappingProxyType({name: load_stage(name) for name in STAGE_NAMES})
