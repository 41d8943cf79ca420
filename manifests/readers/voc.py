"""Reads PASCAL VOC: a devkit, or pictures and XML files as labelling tools lay them out."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree.ElementTree import Element

from cache.errors import DatasetError
from manifests.dataset import Dataset
from manifests.files import read_bytes, resolve_inside
from manifests.names import NameIndex
from manifests.text import parse_xml

from .build import build_dataset
from .findings import Findings, FoundImage
from .options import TRAIN_NAMES, ReadOptions
from .unannotated import take_unannotated
from .voc_layout import VocLayout, find_layout
from .voc_lists import Find, read_lists
from .voc_masks import add_voc_masks
from .voc_xml import find_objects, read_object, stated_pictures, stated_size


def read_voc(
    path: str | Path | None, options: ReadOptions | None = None, *, name: str | None = None
) -> tuple[Dataset, Path, list[str]]:
    """Read a VOC dataset; returns it, the folder its file names are relative to, and notes for the user.

    ``path`` is a folder with Annotations/ and JPEGImages/, or ``VOCdevkit``, or its parent; or any folder with pictures
    and XML files of their names, in one folder or in several. ``options.images`` and ``options.annotations`` name the
    two folders instead. An annotation whose own name is no picture's belongs to the picture that is named inside it.
    Splits are the lists of ImageSets/Main (or, where there are none, those of ImageSets or of the dataset's own
    folder that have splits' names and name its images), or else folders called train, valid, test; images in no split
    are left out.
    Images of the splits ``options.unannotated`` need no annotation.
    With ``options.segmentation`` :func:`read_voc_masks` reads it, which gives the folder of the masks, too.
    Classes are those found, sorted by name (VOC's own order), unless ``options.classes`` names them.
    DatasetError holds all problems of the dataset.
    """
    return read_voc_masks(path, options, name=name)[:3]


def read_voc_masks(
    path: str | Path | None, options: ReadOptions | None = None, *, name: str | None = None
) -> tuple[Dataset, Path, list[str], Path | None]:
    """Read a VOC dataset as :func:`read_voc`; returns, fourth, the folder that its masks' file names are relative to.

    It is None without ``options.segmentation``. With it each annotated image needs its masks, and the splits are the
    lists of ImageSets/Segmentation, where there are any.
    """
    options = options or ReadOptions()
    findings = Findings(skip=options.on_error == "skip")
    layout = find_layout(None if path is None else Path(path), options, findings)
    samples = _samples(layout, findings)
    by_folder = layout.folder_splits()
    lists = read_lists(layout.lists, _finder(samples), findings, folders=bool(by_folder))
    splits = lists.splits
    listed_in = {image_id: split for split, ids in reversed(splits.items()) for image_id in ids}
    members = {split: set(ids) for split, ids in (splits or by_folder).items()}
    bare = set[str]().union(*(ids for split, ids in members.items() if options.is_unannotated([split])))
    wanted = _wanted(layout, samples, listed_in, lists.shown.rstrip("/"), bare, findings)
    found = []
    for image_id in sorted(wanted):
        listed = f" (listed in {lists.shown}{listed_in[image_id]}.txt)" if image_id in listed_in else ""
        image_splits = tuple(split for split, ids in members.items() if image_id in ids)
        sample = samples.get(image_id, _Sample(image_id))
        image = _found_image(layout, sample, image_splits, listed, options, findings)
        if image is not None:
            found.append(image)
    found = take_unannotated(found, options, findings)
    masks = layout.root.parent if options.segmentation else None
    if masks is not None:
        found, categories = add_voc_masks(masks, found, options.classes, findings)
    else:
        classes = options.classes or sorted({item.label for image in found for item in image.objects})
        categories = {label: i for i, label in enumerate(classes, start=1)}
    name = name or (layout.root.parent if layout.standard else layout.root).name
    dataset, notes = build_dataset(name, layout.root, found, categories, options, findings, layout.listing)
    return dataset, layout.root, notes, masks


def read_flickr_ids(path: str | Path | None, options: ReadOptions) -> dict[str, str]:
    """Read which photograph of flickr each picture is: ids by the picture's file, as :func:`read_voc` names it.

    VOC's own annotations up to 2007 test have them, in ``<source><flickrid>``. A picture without one is left out.
    DatasetError where the folder or an annotation cannot be read.
    """
    findings = Findings(skip=False)
    layout = find_layout(None if path is None else Path(path), options, findings)
    found, problems = {}, list[str]()
    for sample in _samples(layout, findings).values():
        if sample.picture is None or sample.annotation is None:
            continue
        try:
            text = _parse(layout, sample.annotation).findtext("source/flickrid", "").strip()
        except DatasetError as error:
            problems += error.problems
            continue
        if text.strip("-0"):
            found[sample.picture] = text
    if problems:
        raise DatasetError(problems)
    return found


@dataclass(frozen=True)
class _Sample:
    """A picture and its annotation, files both, either of which may be missing; ``xml_id`` is the annotation's id."""

    image_id: str
    picture: str | None = None
    annotation: str | None = None
    xml_id: str | None = None


def _samples(layout: VocLayout, findings: Findings) -> dict[str, _Sample]:
    """All pictures and annotations by image id: the picture's, or the annotation's where it has no picture."""
    picture_of = {**layout.picture_of, **_pictures_named_inside(layout, findings)}
    samples = {image_id: _Sample(image_id, picture) for image_id, picture in layout.pictures.items()}
    for xml_id, file in layout.annotations.items():
        image_id = picture_of.get(xml_id, xml_id)
        samples[image_id] = _Sample(image_id, layout.pictures.get(image_id), file, xml_id)
    return samples


def _pictures_named_inside(layout: VocLayout, findings: Findings) -> dict[str, str]:
    """Picture ids by annotation id, of annotations without a picture of their name that name another one's inside."""
    free = {layout.pictures[image_id]: image_id for image_id in layout.pictures.keys() - layout.picture_of.values()}
    index = NameIndex(free)
    taken: dict[str, str] = {}  # annotations by picture
    for xml_id in sorted(layout.annotations.keys() - layout.picture_of) if free else ():
        shown = layout.xml_name(layout.annotations[xml_id])
        try:
            names = stated_pictures(_parse(layout, layout.annotations[xml_id]))
        except DatasetError:  # told where it is read as a whole
            continue
        picture = next((found for name in names if (found := index.find(name)) is not None), None)
        if picture in taken:
            other = layout.xml_name(layout.annotations[taken[picture]])
            findings.problem(f"{shown}: names the picture {picture}, as {other} does; keep one annotation of it")
        elif picture is not None:
            taken[picture] = xml_id
    if taken:
        picture, xml_id = next(iter(taken.items()))
        findings.note(
            f"{len(taken)} annotations have no picture of their name and belong to the one named inside (such as "
            f"{layout.xml_name(layout.annotations[xml_id])} to {picture})"
        )
    return {xml_id: free[picture] for picture, xml_id in taken.items()}


def _finder(samples: Mapping[str, _Sample]) -> Find:
    """What a list's line may mean: image ids, by the pictures' names or the annotations'."""
    own_id = {s.xml_id: s.image_id for s in samples.values() if s.xml_id is not None}
    own_id |= {image_id: image_id for image_id in samples}
    index = NameIndex(own_id)
    return lambda text: sorted({own_id[name] for name in index.candidates(text)})


def _wanted(
    layout: VocLayout,
    samples: Mapping[str, _Sample],
    listed: Mapping[str, str],
    place: str,
    unannotated: Collection[str],
    findings: Findings,
) -> set[str]:
    """Ids of the images to take: those listed, or where nothing is listed those with an annotation or ``unannotated``.

    Everything else is noted. An annotation without a picture is wanted too, and then told as a problem; not so in a
    sub-folder of a devkit's annotations, where people put others aside.
    """
    annotated = {image_id: sample for image_id, sample in samples.items() if sample.annotation is not None}
    if listed:
        unlisted = [sample for image_id, sample in annotated.items() if image_id not in listed]
        if unlisted:
            of_place = f"split of {place}" if place else "split's list"
            findings.note(f"{len(unlisted)} annotated images are in no {of_place} and are left out")
            findings.told.update(sample.picture for sample in unlisted if sample.picture is not None)
        wanted = set(listed)
    else:
        aside = [s for s in annotated.values() if layout.standard and "/" in s.image_id and s.picture is None]
        if aside:
            example = layout.xml_name(min(str(sample.annotation) for sample in aside))
            findings.note(f"{len(aside)} annotations in sub-folders have no image and are left out (such as {example})")
        wanted = (annotated.keys() - {sample.image_id for sample in aside}) | set(unannotated)
    bare = {s.picture for s in samples.values() if s.picture and s.annotation is None and s.image_id not in wanted}
    findings.left_out(bare, f"{len(bare)} images without an annotation file are left out")
    return wanted


def _found_image(
    layout: VocLayout,
    sample: _Sample,
    splits: tuple[str, ...],
    listed: str,
    options: ReadOptions,
    findings: Findings,
) -> FoundImage | None:
    """An image to take; None where something is missing, which becomes a problem."""
    where = layout.xml_name(sample.annotation or f"{sample.image_id}.xml")
    if sample.picture is None and sample.annotation is None:
        findings.problem(f"{sample.image_id}: no image or annotation has this id{listed}; add them or remove the id")
        return None
    if sample.picture is None:
        findings.problem(
            f"{where}: there is no image {sample.image_id}.* in {layout.picture_place}{listed}; add it or remove the id"
        )
        return None
    findings.told.add(sample.picture)
    if options.leaves_unread(splits) or (sample.annotation is None and options.is_unannotated(splits)):
        return FoundImage(sample.picture, where, (), splits=splits, unread=sample.annotation is not None)
    if sample.annotation is None:
        advice = "add it or remove the id from the split"
        if split := next((split for split in splits if split.lower() not in TRAIN_NAMES), None):
            advice += f", or import with --unannotated {split} where none of it is annotated"
        findings.problem(f"{where}: there is no such file{listed}; {advice}", "no such annotation")
        return None
    try:
        root, elements = _objects(layout, sample.annotation, where)
    except DatasetError as error:
        findings.problem(error)
        findings.note(f"left out: {where}: the whole image {sample.picture}: its annotation cannot be read", "unread")
        return None
    objects = []
    unreadable = 0
    for number, element in enumerate(elements, start=1):
        try:
            item = read_object(element, f"object {number}")
            mask = {"mask": number} if options.segmentation else {}
            objects.append(replace(item, details={**item.details, **mask}))
        except ValueError as error:
            findings.problem(f"{where}: object {number}: {error}; correct or remove it", str(error))
            unreadable += 1
    try:
        stated = stated_size(root)
    except ValueError as error:
        findings.problem(f"{where}: {error}; correct or remove <size>", str(error))
        stated = None
    return FoundImage(sample.picture, where, objects, None, stated, splits, unreadable=unreadable)


def _objects(layout: VocLayout, file: str, where: str) -> tuple[Element, Sequence[Element]]:
    """An annotation's root and objects; DatasetError where it cannot be read, or is in another form."""
    root = _parse(layout, file)
    try:
        return root, find_objects(root)
    except ValueError as error:
        raise DatasetError(f"{where}: {error}; export it as VOC, or remove it") from None


def _parse(layout: VocLayout, file: str) -> Element:
    where = layout.xml_name(file)
    return parse_xml(read_bytes(resolve_inside(layout.xml_root, file), where), where)
