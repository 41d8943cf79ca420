"""The section with photographs: the same test images with each detector's detections beside each other."""

from collections.abc import Sequence

import numpy as np

from cache.text import counted
from manifests import ImageRecord
from stages.page.markup import Markup, join, section, tag
from stages.page.pictures import Mark, side_by_side
from stages.scoring.files import WITH_BBOX

from .disagreement import disagreement
from .inputs import ComparisonData
from .measures import Comparison, Drawn
from .scores import name_of

# Most detections drawn on an image, most of them named (more names would cover each other), most columns in a row.
_MAX_BOXES, _MAX_NAMED, _MAX_COLUMNS = 40, 12, 5


def disputed_images(data: ComparisonData, comparison: Comparison) -> Markup:
    """Show the test images on which the detectors disagree most, a column per detector."""
    kept = "Detections are shown that score at least what balances precision and recall best (F1) for their class."
    several = len(data.detectors) > 1
    if not comparison.scored:
        text = "Detections are shown that score at least an SVM's boundary, 0, or a probability of 0.5."
        if several:
            text += " Images on which some detector finds nothing and another something come first."
    elif several:
        text = (
            f"{kept} They have an F1 on every image; shown are the images with the largest difference between the "
            "highest and the lowest F1 of a detector, of equals those with the smallest id first."
        )
    else:
        text = f"{kept} One detector disagrees with none: shown are the images with the smallest ids."
    apart = disagreement(comparison.f1)
    blocks = [_block(data, comparison, i, float(apart[i])) for i in comparison.disputed]
    if not blocks:
        blocks = [tag("p", "None: there is no test image, or the parameter compare.max_images is 0.", class_="note")]
    title = "Where they disagree most" if several else "Test images"
    legend = _legend() if comparison.scored else Markup("")
    return section("images", title, tag("p", text, class_="note"), legend, *blocks)


def _legend() -> Markup:
    kinds = (
        ("truth", "annotated object, in the detectors' columns one that is missed"),
        ("right", "right detection"),
        ("wrong", "wrong detection"),
        ("ignored", "difficult or crowd object, and a detection of one, neither of which counts"),
    )
    ends = [", "] * (len(kinds) - 1) + ["."]
    parts = [
        join(tag("span", "■ ", class_=f"text {style}"), text, end)
        for (style, text), end in zip(kinds, ends, strict=True)
    ]
    return tag("p", *parts, class_="note")


def _block(data: ComparisonData, comparison: Comparison, index: int, apart: float) -> Markup:
    record = data.tested[index]
    uncounted = (record.difficult | record.crowd).tolist()
    objects = [
        Mark(box, "ignored" if ignored else "truth", data.classes[label])
        for box, label, ignored in zip(record.boxes.tolist(), record.labels.tolist(), uncounted, strict=True)
    ]
    columns: list[tuple[Sequence[Mark], str]] = []
    if comparison.scored:
        columns.append((_named(objects), _annotated(record)))
    for i, (one, drawn) in enumerate(zip(data.detectors, comparison.drawn, strict=True)):
        marks, counts = _marks(data, i, drawn, index, scored=comparison.scored)
        f1 = f", F1 {comparison.f1[i, index]:.2f}" if comparison.scored else ""
        columns.append((marks, join(name_of(i, one.name), f": {counts}{f1}")))
    figures = side_by_side(
        data.pixels(record),
        columns,
        name=f"photograph-{index}",
        longest_px=data.settings.picture_px,
        quality=data.settings.jpeg_quality,
    )
    width = f"minmax(0, {data.settings.picture_px}px)"
    grid = f"grid-template-columns: repeat({min(len(columns), _MAX_COLUMNS)}, {width})"
    apart_by = f": F1 apart by {apart:.2f}" if comparison.scored and len(data.detectors) > 1 else ""
    title = f"{record.name}{apart_by}"
    return tag("div", tag("h3", title), tag("div", *figures, style=grid), class_="disputed")


def _annotated(record: ImageRecord) -> str:
    n, ignored = len(record.labels), int((record.difficult | record.crowd).sum())
    return f"annotated: {counted(n, 'object')}" + (f", of which {ignored} difficult or crowd" if ignored else "")


def _marks(data: ComparisonData, detector: int, drawn: Drawn, index: int, *, scored: bool) -> tuple[list[Mark], str]:
    """Mark what a detector found on an image and what it missed, and say it in figures."""
    found, record = data.detectors[detector].found[WITH_BBOX], data.tested[index]
    kept = np.flatnonzero((found.image == index) & drawn.kept)
    kept = kept[np.argsort(-found.scores[kept], kind="stable")]
    missed = drawn.missed[index]
    marks = [Mark(record.boxes[k].tolist(), "truth") for k in np.flatnonzero(missed).tolist()]
    for k in kept[:_MAX_BOXES].tolist():
        style = "right" if drawn.right[k] else "ignored" if drawn.ignored[k] else "wrong" if scored else "found"
        marks.append(Mark(found.boxes[k].tolist(), style, data.classes[found.labels[k]]))
    right, ignored = int(drawn.right[kept].sum()), int(drawn.ignored[kept].sum())
    parts = [f"{right} right", f"{len(kept) - right - ignored} wrong", f"{int(missed.sum())} missed"]
    return _named(marks), ", ".join(parts) if scored else f"{len(kept)} found"


def _named(marks: Sequence[Mark]) -> list[Mark]:
    """Drop the names where there are too many: colours alone."""
    named = sum(bool(mark.text) for mark in marks)
    return [Mark(mark.box, mark.style, mark.text if named <= _MAX_NAMED else "") for mark in marks]
