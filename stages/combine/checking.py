"""Whether detectors can be combined: the same images and classes, scores and boxes of one kind."""

from collections.abc import Iterator, Mapping

from cache import Artifact

from ..common.errors import StageError

_KINDS = {
    "classifier": "scores of a {} and of a {} are not on one scale; set svm.classifier alike",
    "regressed": "box regression is {} in one and {} in the other; set bbox.enabled alike",
}


def check_fit(own: Artifact, others: Mapping[str, Artifact]) -> None:
    """Raises StageError, one line for each thing in which one of the others does not fit the project's detections.

    A detector of more images is refused, too: the further ones may be what this project's detector was trained on.
    """
    problems = [f"combine.detectors: {name}: {line}" for name, other in others.items() for line in _misfits(own, other)]
    if problems:
        raise StageError("\n".join(problems))


def same_images(own: Artifact, other: Artifact) -> list[str]:
    """The other detector's keys in the order of the project's images, told by their bytes, whatever their ids."""
    by_image = dict(zip(other.summary["images"], other.keys.values(), strict=True))
    return [by_image[sha256] for sha256 in own.summary["images"]]


def _misfits(own: Artifact, other: Artifact) -> Iterator[str]:
    mine, theirs = own.summary, other.summary
    if mine["classes"] != theirs["classes"]:
        yield (
            f"detects {', '.join(theirs['classes'])}, and this project {', '.join(mine['classes'])}, in this order; "
            "set manifest.classes alike"
        )
    images, their_images = set(mine["images"]), set(theirs["images"])
    if images != their_images:
        yield (
            f"searched {len(their_images)} images, and this project {len(images)}, of which "
            f"{len(images & their_images)} are the same; make both on one test split"
        )
    for name, text in _KINDS.items():
        if mine[name] != theirs[name]:
            yield text.format(_word(theirs[name]), _word(mine[name]))


def _word(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)
