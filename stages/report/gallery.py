"""The sections with photographs: best and worst detections of each class, and whole test images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from manifests import ImageRecord
from stages.detections.precise import Precise
from stages.detections.suppression import Detection
from stages.page.markup import Markup, join, section, tag
from stages.page.pictures import Mark, picture, window
from stages.scoring.files import WITH_BBOX
from stages.scoring.precision import precision_curves

from .inputs import PageData

_LISTS = (
    ("right", "Found, best score first"),
    ("wrong", "Wrong, best score first"),
    ("missed", "Missed, largest first"),
)
_KINDS = {"localisation": "poorly localised", "background": "background"}
# Most boxes drawn on a whole image; more would hide it.
_MAX_BOXES = 40


def legend() -> Markup:
    """Say what the colours of the boxes mean."""
    return tag(
        "p",
        tag("span", "■ ", class_="text truth"),
        "annotated object, ",
        tag("span", "■ ", class_="text right"),
        "right detection, ",
        tag("span", "■ ", class_="text wrong"),
        "wrong detection.",
        class_="note",
    )


def best_and_worst(data: PageData) -> Markup:
    """Show for each class right detections, wrong ones with the kind of mistake, and missed objects."""
    records = {record.id: record for record in data.tested}
    names = [name for name in data.shown_classes() if any(data.examples.get(name, {}).values())]
    each = data.settings.max_examples // max(1, len(_LISTS) * len(names))
    parts = []
    for name in names if each else ():
        label = data.classes.index(name)
        strips = []
        for kind, title in _LISTS:
            shown = data.examples[name][kind][:each]
            figures = [_example(data, records[e["image"]], e, kind, label) for e in shown]
            if figures:
                strips.append(tag("div", tag("h4", title), tag("div", *figures, class_="crops")))
        parts.append(join(tag("h3", name), *strips))
    text = "" if parts else "None: there are no examples, or the parameter report.max_examples leaves room for none."
    return section("examples", "Best and worst detections", legend(), *parts, tag("p", text) if text else Markup(""))


def _example(data: PageData, record: ImageRecord, example: Mapping[str, Any], kind: str, label: int) -> Markup:
    box = example["box"]
    objects = record.boxes[record.labels == label].tolist()
    marks = [Mark(o, "truth") for o in objects]
    if kind == "missed":
        covered = example["proposal_iou"]
        caption = f"{record.name}: best proposal has IoU {covered:.2f}"
        marks = [Mark(box, "truth")]
    else:
        caption = f"{record.name}: {example['score']:.2f}, IoU {example['iou']:.2f}"
        marks.append(Mark(box, kind))
    if kind == "wrong":
        caption += f", {_mistake(data, example)}"
    return picture(
        data.pixels(record),
        marks,
        caption,
        part=window(box, record.width, record.height),
        longest_px=data.settings.picture_px * 2 // 3,
        quality=data.settings.jpeg_quality,
    )


def _mistake(data: PageData, example: Mapping[str, Any]) -> str:
    if example["confused"] is not None:
        return f"on {example['confused']}"
    if example["kind"] == "localisation" and example["iou"] >= data.metrics["protocol"]["voc_iou"]:
        return "found a second time"
    return _KINDS[example["kind"]]


def random_images(data: PageData) -> Markup:
    """Show whole test images, drawn by the seed, with the detections that a user would keep."""
    chosen = sorted(_drawn(data, 0, data.settings.random_images))
    figures = [_whole(data, data.tested[i]) for i in chosen]
    text = (
        "Drawn at random. Detections (with box regression) that score at least what balances precision and recall "
        "best for their class; annotated objects are dashed."
    )
    if not data.scored:
        least = max(data.shown_from.values(), default=0.0)
        text = f"Drawn at random. Detections (with box regression) that score at least {least:g}."
    parts = [tag("p", text, class_="note"), tag("div", *figures, class_="photographs"), *_precise(data)]
    return section("images", "Test images", *parts)


def _precise(data: PageData) -> list[Markup]:
    """Show other whole test images with every detection of a precision above 0.5, as the paper's Figures 8 to 11 do."""
    curves = precision_curves(data.pr, WITH_BBOX) if data.scored else {}
    count = min(data.settings.random_images, len(data.tested))
    if not curves or not count:
        return []
    chosen = _drawn(data, count, 2 * count)
    chosen += _drawn(data, 0, count - len(chosen))  # of few images some are shown in both ways
    choose = Precise(curves)
    figures = [_with_precision(data, data.tested[i], choose) for i in sorted(chosen)]
    text = (
        f"Every detection whose precision is above {choose.least:g}: of all detections of its class in the test images "
        "that score at least as much, more than half are right. Labels have the class and that precision (Girshick et "
        "al. 2014, Figures 8 to 11)."
    )
    heading = tag("h3", f"Detections of a precision above {choose.least:g}")
    return [heading, tag("p", text, class_="note"), tag("div", *figures, class_="photographs")]


def _drawn(data: PageData, start: int, stop: int) -> list[int]:
    """Test images ``start`` to ``stop`` of an order drawn by the seed."""
    rng = np.random.default_rng(np.random.SeedSequence([data.seed, len(data.tested)]))
    drawn: list[int] = rng.permutation(len(data.tested))[start:stop].tolist()
    return drawn


def _with_precision(data: PageData, record: ImageRecord, choose: Precise) -> Markup:
    found = data.found(record)
    rows = zip(found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True)
    detections = [Detection(data.classes[label], score, tuple(box)) for label, score, box in rows]
    shown = choose(detections)
    marks = [Mark(d.box, "found", f"{d.label} {d.score:.2f}") for d in shown[:_MAX_BOXES]]
    return picture(
        data.pixels(record),
        _labels_only_where_they_fit(marks),
        f"{record.name}: {len(shown)} shown",
        longest_px=data.settings.picture_px,
        quality=data.settings.jpeg_quality,
    )


def _whole(data: PageData, record: ImageRecord) -> Markup:
    found = data.found(record)
    least = np.array([data.shown_from.get(name, np.inf) for name in data.classes])
    kept = np.flatnonzero(found.scores >= least[found.labels])
    kept = kept[np.argsort(-found.scores[kept], kind="stable")]
    marks = [Mark(box, "truth") for box in record.boxes.tolist()]
    marks += [Mark(found.boxes[i].tolist(), "found", data.classes[found.labels[i]]) for i in kept[:_MAX_BOXES].tolist()]
    caption = f"{record.name}: {len(kept)} found"
    if data.scored:
        caption += f", {len(record.labels)} annotated"
    return picture(
        data.pixels(record),
        _labels_only_where_they_fit(marks),
        caption,
        longest_px=data.settings.picture_px,
        quality=data.settings.jpeg_quality,
    )


def _labels_only_where_they_fit(marks: Sequence[Mark]) -> list[Mark]:
    """Drop the labels of many boxes, which would cover each other: colours alone."""
    named = sum(bool(mark.text) for mark in marks)
    return [Mark(mark.box, mark.style, mark.text if named <= 12 else "") for mark in marks]
