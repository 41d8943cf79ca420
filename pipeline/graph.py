"""The stage graph: which stages there are, in the order in which they run.

``STAGE_NAMES`` are the detector's, of dvc.yaml; classification begins after ``pretrain`` and has a file of its own.
"""

import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import PurePath
from types import MappingProxyType

from cache.errors import ParamsError
from cache.text import nearest
from stages.contract import Stage

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
_MODULES = {
    "detect": "stages.detections.detect_stage",
    "combine": "stages.detections.combine_stage",
    "classify": "stages.classification.classify_stage",
    "classify_svm": "stages.classification.classify_svm_stage",
}
ALL_STAGE_NAMES = (*STAGE_NAMES, *CLASSIFICATION_STAGE_NAMES)


@cache
def load_stage(name: str) -> Stage:
    """The declaration of one stage; :class:`ParamsError` names the nearest stage for a misspelt one."""
    if name not in ALL_STAGE_NAMES:
        raise ParamsError(
            f"there is no stage {name!r}{nearest(name, ALL_STAGE_NAMES)}; stages: {', '.join(ALL_STAGE_NAMES)}"
        )
    stage: Stage = importlib.import_module(_MODULES.get(name, f"stages.{name}.stage")).STAGE
    return stage


@cache
def all_stages() -> MappingProxyType[str, Stage]:
    """Every stage by name, in running order."""
    return MappingProxyType({name: load_stage(name) for name in ALL_STAGE_NAMES})


def stages_before(name: str, dataset: str) -> list[str]:
    """The stages whose outputs stage ``name`` reads, directly or through others, in running order."""
    before: list[str] = []
    read = _paths(load_stage(name).inputs, dataset)
    for earlier in reversed(ALL_STAGE_NAMES[: ALL_STAGE_NAMES.index(name)]):
        stage = load_stage(earlier)
        made = _paths(stage.outputs, dataset)
        if any(path == one or one in path.parents for path in read for one in made):
            before.insert(0, earlier)
            read |= _paths(stage.inputs, dataset)
    return before


def _paths(files: Mapping[str, str], dataset: str) -> set[PurePath]:
    return {PurePath(path.replace("${dataset}", dataset)) for path in files.values()}
