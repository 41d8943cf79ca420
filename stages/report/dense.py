"""The sections about OverFeat's detector: how windows become boxes (its figures 6 and 7), and localisation errors."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests import ImageRecord
from stages.page.markup import Markup, join, percent, section, table, tag
from stages.page.pictures import Mark, side_by_side

from .inputs import DenseFound, PageData

_IMAGES = 6  # the paper shows one
_MOST_WINDOWS = 40  # of a column; more would hide the photograph
_MERGED = ("wrong", "found")  # styles of the best and the second merged box, and of their members


def windows_to_boxes(data: PageData) -> Markup:
    """Show, for six test images, a class's windows at the pooling's stride, at every cell, regressed and merged."""
    if data.dense is None:
        return Markup("")
    parts: list[Markup] = []
    for record in _drawn(data):
        if len(parts) == _IMAGES:
            break
        found = data.dense(record)
        if not len(found.labels):
            continue
        label = int(found.labels[np.argmax(found.confidences)])
        columns = _columns(found, label, data.score_floor)
        figures = side_by_side(
            data.pixels(record),
            columns,
            name=f"dense-{record.id}",
            longest_px=data.settings.picture_px,
            quality=data.settings.jpeg_quality,
        )
        parts.append(
            join(tag("h3", f"{record.name}: {data.classes[label]}"), tag("div", *figures, class_="photographs"))
        )
    text = (
        f"Test images drawn at random, each with the class of its most confident box. At most {_MOST_WINDOWS} windows "
        "are drawn, the best ones. The last column shows the two most confident merged boxes, thick, each with the "
        "boxes that it is the mean of, in its colour."
    )
    empty = tag("p", "Nothing was found on the images drawn.") if not parts else Markup("")
    return section("dense", "From windows to boxes", tag("p", text, class_="note"), *parts, empty)


def _drawn(data: PageData) -> list[ImageRecord]:
    """Put the test images in an order drawn by the seed, those with objects first."""
    rng = np.random.default_rng(np.random.SeedSequence([data.seed, len(data.tested), _IMAGES]))
    drawn = [data.tested[i] for i in rng.permutation(len(data.tested)).tolist()]
    drawn.sort(key=lambda record: not len(record.labels))
    return drawn


def _columns(found: DenseFound, label: int, score_floor: float) -> list[tuple[list[Mark], str]]:
    """Make the four columns of an image: marks and caption of each."""
    scores = found.scores[:, label]
    taken = np.flatnonzero(scores > score_floor)
    taken = taken[np.argsort(-scores[taken], kind="stable")]
    coarse = taken[found.coarse[taken]]
    columns = [
        (_marks(found.windows[coarse], scores[coarse]), f"{len(coarse)} windows at the pooling's stride"),
        (_marks(found.windows[taken], scores[taken]), f"{len(taken)} windows at every cell"),
        (_marks(found.edges_of(label)[taken], scores[taken]), "where the regressor puts their objects"),
    ]
    own = np.flatnonzero(found.labels == label)
    best = own[np.argsort(-found.confidences[own], kind="stable")][: len(_MERGED)]
    marks = []
    for row, style in reversed(list(zip(best.tolist(), _MERGED, strict=False))):
        members = found.edges_of(label)[found.member_windows[found.member_boxes == row]]
        marks += [Mark(box, f"{style} thin") for box in members[:_MOST_WINDOWS].tolist()]
    for row, style in reversed(list(zip(best.tolist(), _MERGED, strict=False))):
        marks.append(Mark(found.boxes[row].tolist(), style, f"{found.confidences[row]:.2f}"))
    columns.append((marks, f"{len(own)} boxes after merging"))
    return columns


def _marks(boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> list[Mark]:
    """Draw the best boxes, the score of the first written at it."""
    shown = boxes[:_MOST_WINDOWS].tolist()
    marks = [Mark(box, "found", f"{scores[0]:.2f}" if not i else "") for i, box in enumerate(shown)]
    return marks[::-1]


_ROWS = {
    "centre_window": "the centre window, as it is",
    "centre_regressed": "the centre window, regressed",
    "merged": "all windows of all scales, merged",
}


def localisation(data: PageData) -> Markup:
    """Show the error rates of one box per guessed class, on test images whose objects are of one class."""
    rows: Mapping[str, Any] = data.localisation
    if not rows:
        return Markup("")
    shown = [[_name(name), *_figures(row)] for name, row in rows.items() if isinstance(row, Mapping)]
    header = ["box", "images", "top-1 error", f"top-{rows['guesses']} error", "wrong class, top 1"]
    text = (
        "ILSVRC's localisation task, on the test images whose objects are all of one class: a guess is right if its "
        f"class is, and its box meets an object with an IoU of at least {rows['iou']:g}. In percent."
    )
    return section("localisation", "Localisation", tag("p", text, class_="note"), table(header, shown))


def _name(row: str) -> str:
    number = row.removeprefix("merged_")
    return _ROWS.get(row, f"the {number} smallest scales, merged")


def _figures(row: Mapping[str, Any]) -> Sequence[str]:
    shares = [row[name] for name in ("top1_error", "topn_error", "class_error")]
    return [str(row["images"]), *("–" if share is None else percent(share / 100) for share in shares)]
