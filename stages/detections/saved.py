"""Detections that were put aside under a name: ``detections/NAME.json``, an artifact manifest of stage ``detect``.

Or of :data:`IMPORTED`, where another program made them.

They are inputs, not results: the folder belongs into version control, where every experiment finds it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from cache import Artifact, StoreError, StoreVersionError
from cache.errors import StageError

IMPORTED = "imported"  # the objects of detections that another program made: no stage computes them
DETECTING = ("detect", "roi_detect", "merge")  # the stages that make detections, by kind of detector
OTHER = "other"  # scores of another program, on a scale of its own
# What the summary must hold for the comparison with others.
_NEEDED = {"classes": list, "images": list, "classifier": str, "regressed": bool, "rank_factor": int | None}


def detector_input(name: str) -> str:
    """Name the input that is the list of another detector of the project."""
    return f"detector.{name}"


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
    if artifact.stage not in (*DETECTING, IMPORTED):
        raise StageError(
            f"{path}: lists results of stage {artifact.stage}, not of {' or '.join(DETECTING)}; save a detector's"
        )
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
    if any(name not in summary or not isinstance(summary[name], kind) for name, kind in _NEEDED.items()):
        return False
    texts = all(isinstance(text, str) for text in [*summary["classes"], *summary["images"]])
    return texts and len(summary["images"]) == len(artifact.entries)


_KINDS = {
    "classifier": "scores of a {} and of a {} are not on one scale; set svm.classifier alike",
    "regressed": "box regression is {} in one and {} in the other; set bbox.enabled alike",
}
_FOREIGN = (
    "another program's scores need not be on the scale of these; where they are, import them with --scores svm or "
    "--scores softmax"
)


def check_fit(own: Artifact, others: Mapping[str, Artifact], own_name: str = "") -> None:
    """Raises StageError, one line for each thing in which one of the others does not fit the project's detections.

    A detector of more images is refused, too: the further ones may be what this project's detector was trained on.
    """
    problems = [
        f"combine.detectors: {name}: {line}"
        for name, other in others.items()
        for line in _misfits(own, other, own_name or "this project")
    ]
    if problems:
        raise StageError("\n".join(problems))


def same_images(own: Artifact, other: Artifact) -> list[str]:
    """The other detector's keys in the order of the project's images, told by their bytes, whatever their ids."""
    by_image = dict(zip(other.summary["images"], other.keys.values(), strict=True))
    return [by_image[sha256] for sha256 in own.summary["images"]]


def _misfits(own: Artifact, other: Artifact, whose: str) -> Iterator[str]:
    mine, theirs = own.summary, other.summary
    if mine["classes"] != theirs["classes"]:
        yield (
            f"detects {', '.join(theirs['classes'])}, and {whose} {', '.join(mine['classes'])}, in this order; "
            "set manifest.classes alike"
        )
    images, their_images = set(mine["images"]), set(theirs["images"])
    if images != their_images:
        yield (
            f"searched {len(their_images)} images, and {whose} {len(images)}, of which "
            f"{len(images & their_images)} are the same; make both on one test split"
        )
    for name, text in _KINDS.items():
        if mine[name] != theirs[name]:
            foreign = OTHER in (mine[name], theirs[name])
            yield _FOREIGN if foreign else text.format(_word(theirs[name]), _word(mine[name]))


def _word(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)
