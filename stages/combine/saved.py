"""Detections that were put aside under a name: ``detections/NAME.json``, an artifact manifest of stage ``detect``.

They are inputs, not results: the folder belongs into version control, where every experiment finds it.
"""

from pathlib import Path

from cache import Artifact, StoreError, StoreVersionError

from ..common.errors import StageError

FOLDER = "detections"
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
# What the summary must hold for the comparison with others.
_NEEDED = {"classes": list, "images": list, "classifier": str, "regressed": bool, "rank_factor": int}


def saved_path(folder: Path, name: str) -> Path:
    """The file of the detections saved under ``name``."""
    return folder / f"{name}.json"


def saved_names(folder: Path) -> list[str]:
    """The names in the folder, sorted; none where it is absent."""
    return sorted(path.stem for path in folder.glob("*.json") if path.is_file())


def read_saved(folder: Path, name: str) -> Artifact:
    """The detections saved under ``name``; raises StageError (unknown, or of another form), StoreVersionError."""
    path = saved_path(folder, name)
    if not path.is_file():
        there = ", ".join(saved_names(folder)) or "none"
        raise StageError(
            f"{path}: no detections are saved under this name (there are: {there}); run the pipeline with the "
            f"parameters that make them, then `rcnn detections save {name}`"
        )
    return checked(path)


def checked(path: Path) -> Artifact:
    """Read a manifest that is to be combined; raises as :func:`read_saved`."""
    if not path.is_file():
        raise StageError(f"{path}: not found; `dvc repro detect` makes it")
    try:
        artifact = Artifact.read(path)
    except StoreVersionError:
        raise
    except StoreError:
        raise StageError(f"{path}: damaged, or no detections; save them again by `rcnn detections save`") from None
    if artifact.stage != "detect":
        raise StageError(f"{path}: lists results of stage {artifact.stage}; save those of artifacts/detect")
    if not _complete(artifact):
        raise StageError(
            f"{path}: made by an older version, without what combining needs; run `dvc repro detect` where they were "
            "made, and save them again"
        )
    return artifact


def detector_of(artifact: Artifact) -> str:
    """Which detector made these detections, for people; of an older version's only what scored them is known."""
    return str(artifact.summary.get("detector", artifact.summary["classifier"]))


def _complete(artifact: Artifact) -> bool:
    summary = artifact.summary
    if any(type(summary.get(name)) is not kind for name, kind in _NEEDED.items()):
        return False
    texts = all(isinstance(text, str) for text in [*summary["classes"], *summary["images"]])
    return texts and len(summary["images"]) == len(artifact.entries)
