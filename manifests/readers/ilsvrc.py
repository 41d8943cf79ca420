"""Reads ILSVRC's detection data, of 2013 (the R-CNN paper's section 4) and later."""

from dataclasses import replace
from pathlib import Path

from cache.errors import DatasetError
from manifests.dataset import Dataset
from manifests.files import read_bytes, resolve_inside
from manifests.text import parse_xml

from .build import build_dataset
from .findings import Findings, FoundImage, FoundObject
from .ilsvrc_layout import META, IlsvrcLayout, find_layout
from .options import ReadOptions
from .unannotated import take_unannotated
from .voc_xml import find_objects, read_object, stated_size

_TRAIN, _VAL, _TEST = "train", "val", "test"


def read_ilsvrc(
    path: str | Path, options: ReadOptions | None = None, *, name: str | None = None
) -> tuple[Dataset, Path, list[str]]:
    """Read ILSVRC's detection data; returns the dataset, the folder its file names are relative to, and notes.

    Splits are the lists (``val``, ``test``, and others that one puts beside them, as the authors' ``val1`` and
    ``val2``); ``train`` is the images that any of the lists of the classes has as positive, in part or whole, and
    its images are ``exhaustive: false``: what the class's own annotators did not look for is unknown. Images that are
    listed as negative alone, and those of ``train_blacklist``, are left out. Classes have their names from
    ``meta_det.mat``, and its ids. An image without an XML file or without objects is one that shows none; in train it
    teaches nothing and is left out. A split ``test`` of which no image has an XML file is taken as one that nobody has
    annotated. What the blacklist names of val is not scored. DatasetError holds all problems.
    """
    options = options or ReadOptions()
    findings = Findings(skip=options.on_error == "skip")
    layout = find_layout(Path(path), options, findings)
    splits = _splits(layout, findings)
    wanted = {image for images in splits.values() for image in images}
    if _TEST in splits and _TEST not in options.unannotated and not layout.annotations.keys() & splits[_TEST].keys():
        options = replace(options, unannotated=(*options.unannotated, _TEST))
    unscored = _unscored(layout, findings)
    in_part = {line.name for line in (*layout.positive, *layout.negative)} | layout.left_out
    found = []
    for image in sorted(wanted):
        where = next(members[image] for members in splits.values() if image in members)
        own = tuple(split for split, members in splits.items() if image in members)
        if image not in layout.pictures:
            findings.problem(f"{where}: there is no picture {image}.JPEG; add it, or remove the line", "no picture")
            continue
        findings.told.add(layout.pictures[image])
        whole = _TRAIN not in own and image not in in_part  # a train picture in another list is none better
        read = _found_image(layout, image, own, unscored.get(image, ()), findings, exhaustive=whole)
        if read is not None:
            found.append(read)
    _note_without_objects(found, options, findings)
    kept = [image for image in found if _TRAIN not in image.splits or image.objects or image.unreadable]
    empty = {image.file_name for image in found} - {image.file_name for image in kept}
    findings.left_out(empty, f"{len(empty)} train images without an object are left out: nothing can be learnt of them")
    kept = take_unannotated(kept, options, findings)
    categories = {label: number for number, label in layout.classes.values()}
    if options.classes is not None:
        if lacking := [label for label in options.classes if label not in categories]:
            raise DatasetError(f"{META}: has no class {lacking[0]!r}; correct --classes")
        categories = {label: categories[label] for label in options.classes}
    dataset, notes = build_dataset(
        name or layout.root.name, layout.root, kept, categories, options, findings, layout.listing
    )
    return dataset, layout.root, notes


def _splits(layout: IlsvrcLayout, findings: Findings) -> dict[str, dict[str, str]]:
    """Names of the images of each split, with where they are listed."""
    splits = {split: {line.name: line.where for line in lines} for split, lines in layout.lists.items() if lines}
    positive = {line.name: line.where for line in layout.positive}
    if positive:
        if _TRAIN in splits:
            findings.note(f"{_TRAIN}.txt: is not read, as there are lists of the classes' train images")
        splits = {_TRAIN: positive, **{split: images for split, images in splits.items() if split != _TRAIN}}
    if _TRAIN in splits:
        splits[_TRAIN] = {image: where for image, where in splits[_TRAIN].items() if image not in layout.left_out}
    elsewhere = {image for images in splits.values() for image in images}
    unwanted = {layout.pictures[image] for image in layout.left_out - elsewhere if image in layout.pictures}
    findings.left_out(unwanted, f"{len(unwanted)} train images that train_blacklist.txt lists are left out")
    negative = {line.name for line in layout.negative} - elsewhere - layout.left_out
    pictures = {layout.pictures[image] for image in negative if image in layout.pictures}
    findings.left_out(
        pictures, f"{len(pictures)} train images that show none of the class that they are listed for are left out"
    )
    return splits


def _unscored(layout: IlsvrcLayout, findings: Findings) -> dict[str, tuple[str, ...]]:
    """Return the classes, by name, that the blacklist takes out of each image of val; tells which it cannot."""
    name_of = {line.number: line.name for line in layout.lists.get(_VAL, ()) if line.number is not None}
    unknown = [number for number in layout.blacklist if number not in name_of]
    if unknown:
        why = "there is no val.txt, whose numbers they are; put it beside the other lists"
        if _VAL in layout.lists:
            why = f"{_VAL}.txt gives no image that number"
        findings.note(
            f"the blacklist of val: {len(unknown)} of its {len(layout.blacklist)} images (such as {unknown[0]}) are "
            f"not known, and are scored whole: {why}"
        )
    return {
        name_of[number]: tuple(layout.classes[wnid][1] for wnid in wnids)
        for number, wnids in layout.blacklist.items()
        if number in name_of
    }


def _found_image(
    layout: IlsvrcLayout,
    image: str,
    splits: tuple[str, ...],
    unscored: tuple[str, ...],
    findings: Findings,
    *,
    exhaustive: bool,
) -> FoundImage | None:
    """An image to take with its objects; None where its XML cannot be read, which becomes a problem."""
    picture, file = layout.pictures[image], layout.annotations.get(image)
    bare = FoundImage(picture, picture, (), splits=splits, exhaustive=exhaustive, unscored=unscored)
    if file is None:
        return bare
    try:
        root = parse_xml(read_bytes(resolve_inside(layout.root, file), file), file)
        elements, stated = find_objects(root), stated_size(root)
    except DatasetError as error:
        findings.problem(error)
    except ValueError as error:
        findings.problem(f"{file}: {error}; copy it again", str(error))
    else:
        objects: list[FoundObject] = []
        for number, element in enumerate(elements, start=1):
            try:
                objects.append(_named(read_object(element, f"object {number}"), layout))
            except ValueError as error:
                findings.problem(f"{file}: object {number}: {error}; correct or remove it", str(error))
        return replace(bare, where=file, objects=objects, stated=stated, unreadable=len(elements) - len(objects))
    findings.note(f"left out: {file}: the whole image {picture}: its annotation cannot be read", "unread")
    return None


def _named(item: FoundObject, layout: IlsvrcLayout) -> FoundObject:
    """Give an object its class's name for its WNID; ValueError where there is no such class."""
    if item.label not in layout.classes:
        raise ValueError(f"WNID {item.label[:40]!r} is not among the classes of {META}")
    return replace(item, label=layout.classes[item.label][1])


def _note_without_objects(found: list[FoundImage], options: ReadOptions, findings: Findings) -> None:
    shown = [image for image in found if _TRAIN not in image.splits and not options.is_unannotated(image.splits)]
    without = sum(not image.objects and not image.unreadable for image in shown)
    if without:
        findings.note(f"{without} of {len(shown)} images beside train have no object: they show none of the classes")
