"""Checks that what a stage reads belongs together.

DVC runs stages in an order in which it does; a stage run by itself, after a change, would otherwise keep what it made
of parts of two detectors.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cache import Artifact, digest_file
from cache.errors import StageError
from stages.lists import of_dataset


def check_classes(own: Sequence[str], classes: Sequence[str], shown: str) -> None:
    """Raise ``StageError`` where ``own``, the classes of the file ``shown``, are not the dataset's, in its order."""
    if tuple(own) != tuple(classes):
        raise StageError(
            f"{shown}: made for classes {', '.join(own)}, and the dataset has {', '.join(classes)}; run `dvc repro`"
        )


def merge_of(found: Artifact, slide: Path, params: Mapping[str, Any], manifest: Path, shown: str) -> Artifact:
    """Return the list of merged boxes as it is.

    Args:
        slide: the list of windows that is there now.
        params: the parameters of group ``merge``, as JSON.
        manifest, shown: as of :func:`slide_of`.

    Raises ``StageError`` where the boxes were merged from other windows or with other parameters, or are of another
    dataset.
    """
    if found.inputs.get("slide") != digest_file(slide) or found.params.get("merge") != params:
        raise StageError(f"{shown}: merged from other windows or with other parameters; run `dvc repro`")
    return of_dataset(found, manifest, shown)


def slide_of(found: Artifact, classes: Sequence[str], k: int | None, manifest: Path, shown: str) -> Artifact:
    """Return the list of images' scored windows as it is.

    Args:
        classes: the dataset's.
        k: of how many classes of a scale boxes are wanted (``merge.k``).
        manifest: the dataset manifest.
        shown: the list's path, for the message.

    Raises ``StageError`` where the windows are of other classes or another dataset, or where a regressor by class was
    asked of another number of classes.
    """
    check_classes(found.summary["classes"], classes, shown)
    if found.summary.get("k", k) != k:
        raise StageError(
            f"{shown}: has boxes of the best {found.summary['k']} classes of each scale, and merge.k is {k}; run `dvc "
            "repro`, which makes them anew"
        )
    return of_dataset(found, manifest, shown)
