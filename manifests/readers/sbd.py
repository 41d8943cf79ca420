"""Reads the Semantic Boundaries Dataset (SBD): VOC's 2011 images with a .mat file of objects each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cache.errors import DatasetError
from manifests.dataset import Dataset, MaskSource
from manifests.files import exists, read_bytes
from manifests.listing import inner_folder, list_pictures
from manifests.masks.examine import Examined, examine_all
from manifests.names import plain_name
from manifests.text import decode_text, text_lines

from .build import build_dataset
from .coco_layout import common_parent
from .findings import Findings, FoundImage
from .mask_checks import examined_or_left_out, foreign_values, note_by_colour, objects_of
from .options import SPLIT_NAMES, TRAIN_NAMES, ReadOptions
from .voc_layout import find_voc_folder
from .voc_masks import CLASSES, OBJECTS, VOC_CLASSES


def read_sbd_dataset(
    path: str | Path, options: ReadOptions | None = None, *, name: str | None = None
) -> tuple[Dataset, Path, list[str], Path]:
    """Read SBD; returns the dataset, its images' folder, notes for the user, and the folder of its masks.

    ``path`` is a folder with ``inst/``, ``img/`` and lists (``train.txt``, ``val.txt``), or one with ``dataset/`` that
    has these. Classes are VOC's, boxes are those of the masks. With ``options.voc``, a VOC folder, an image that has a
    mask of VOC's own takes that; images of VOC's ``ImageSets/Segmentation/val.txt`` are left out of the splits to train
    on, as many that evaluate on it would train on it otherwise; and VOC's lists are the splits ``voc_train`` and
    ``voc_val``. DatasetError holds all problems of the dataset.
    """
    options = options or ReadOptions()
    findings = Findings(skip=options.on_error == "skip")
    layout = _layout(Path(path).resolve(), options)
    splits = _splits(layout, findings)
    listing = list_pictures(layout.images)
    pictures = {PurePosixPath(picture).with_suffix("").as_posix(): picture for picture in listing.pictures}
    wanted = list(dict.fromkeys(image_id for ids in splits.values() for image_id in ids))
    sources = {image_id: source for image_id in wanted if (source := _source(layout, image_id, pictures, findings))}
    examined = dict(zip(sources, examine_all(layout.mask_root, list(sources.values())), strict=True))
    note_by_colour(examined.values(), findings)
    labels = options.classes or VOC_CLASSES
    categories = {label: i for i, label in enumerate(VOC_CLASSES, start=1) if label in labels}
    if absent := [label for label in labels if label not in categories]:
        findings.fatal(f"classes: {', '.join(absent)} not among SBD's classes, which are VOC's; correct --classes")
    names = dict(enumerate(VOC_CLASSES, start=1))
    found = []
    for image_id, one in examined.items():
        taken = _usable(one, pictures[image_id], names, findings)
        if taken is not None:
            members = tuple(split for split, ids in splits.items() if image_id in ids)
            where = taken.masks.files[0][0]
            objects = objects_of(taken, names)
            found.append(
                FoundImage(pictures[image_id], where, objects, splits=members, masks=taken.masks, mask_size=taken.size)
            )
    dataset, notes = build_dataset(
        name or layout.base.name, layout.images, found, categories, options, findings, listing
    )
    return dataset, layout.images, notes, layout.mask_root


@dataclass(frozen=True)
class _Layout:
    """Folders of SBD, and of VOC where it was given."""

    base: Path
    instances: Path
    images: Path
    voc: Path | None = None
    mask_root: Path = field(init=False)

    def __post_init__(self) -> None:
        masks = [self.instances.parent, *([self.voc] if self.voc is not None else [])]
        object.__setattr__(self, "mask_root", common_parent(masks))

    def shown(self, file: Path) -> str:
        """A file's name relative to the mask root."""
        return file.relative_to(self.mask_root).as_posix()


def _layout(path: Path, options: ReadOptions) -> _Layout:
    tops = [path, *(top for top in [inner_folder(path, "dataset")] if top is not None)]
    base = next((top for top in tops if inner_folder(top, "inst") is not None), None)
    instances = None if base is None else inner_folder(base, "inst")
    if base is None or instances is None:
        raise DatasetError(f"{path}: has no inst/ with SBD's .mat files, nor has a dataset/ in it; correct the path")
    images = inner_folder(base, "img") if options.images is None else Path(options.images).resolve()
    if images is None or not images.is_dir():
        raise DatasetError(f"{base}: has no img/ with the images; give their folder (VOC's JPEGImages) by --images")
    voc = None if options.voc is None else find_voc_folder(Path(options.voc))
    if voc is not None and inner_folder(voc, CLASSES) is None:
        raise DatasetError(f"{voc}: has no {CLASSES}/; give a VOC folder with masks by --voc, or leave --voc out")
    return _Layout(base, instances.resolve(), images.resolve(), voc)


def _splits(layout: _Layout, findings: Findings) -> dict[str, list[str]]:
    """Image ids by split: SBD's lists, those to train on without VOC's val images, and VOC's own lists."""
    splits = {
        path.stem: _ids(path, findings)
        for path in sorted(layout.base.glob("*.txt"))
        if path.stem.lower() in SPLIT_NAMES
    }
    if not splits:
        findings.fatal(f"{layout.base}: has no lists train.txt and val.txt; add them")
    if layout.voc is None:
        findings.note(
            "SBD's training list holds images of VOC's val: a figure on VOC's val would be of images trained on; give "
            "VOC by --voc to leave these out"
        )
        return splits
    lists = layout.voc / "ImageSets" / "Segmentation"
    own = {name: _ids(lists / f"{name}.txt", findings) for name in ("train", "val") if exists(lists / f"{name}.txt")}
    if "val" not in own:
        findings.fatal(f"{lists}: has no val.txt, whose images are not to be trained on; correct --voc")
    evaluated = set(own.get("val", ()))
    for split, ids in splits.items():
        if split.lower() not in TRAIN_NAMES:
            continue
        kept = [image_id for image_id in ids if image_id not in evaluated]
        findings.note(
            f"{split}.txt: {len(ids) - len(kept)} of its {len(ids)} images are in VOC's val and left out of it"
        )
        splits[split] = kept
    known = {path.stem for path in layout.instances.glob("*.mat")}
    for split, ids in own.items():
        here = [image_id for image_id in ids if image_id in known]
        if len(here) < len(ids):
            findings.note(f"{len(ids) - len(here)} of the {len(ids)} images of VOC's {split} are not in SBD")
        splits |= {f"voc_{split}": here} if here else {}
    return splits


def _ids(path: Path, findings: Findings) -> list[str]:
    try:
        lines = text_lines(decode_text(read_bytes(path, path.name), path.name))
    except DatasetError as error:
        findings.fatal(error)
        return []
    return list(dict.fromkeys(name for line in lines if (name := plain_name(line))))


def _source(layout: _Layout, image_id: str, pictures: Mapping[str, str], findings: Findings) -> MaskSource | None:
    """An image's masks: VOC's own, or else SBD's; None where a file is missing, which is a problem."""
    if image_id not in pictures:
        findings.problem(
            f"{image_id}: there is no image of this id in {layout.images}, but a list names it", "no image"
        )
        return None
    if layout.voc is not None:
        own = [layout.voc / folder / f"{image_id}.png" for folder in (CLASSES, OBJECTS)]
        if all(map(exists, own)):
            return MaskSource("voc", layout.shown(own[0]), object_map=layout.shown(own[1]))
    file = layout.instances / f"{image_id}.mat"
    if exists(file):
        return MaskSource("sbd", object_map=layout.shown(file))
    line = f"{layout.shown(file)}: there is no such file, but a list names it; add it or remove the id"
    findings.problem(line, "no such mask")
    findings.told.add(pictures[image_id])
    return None


def _usable(
    examined: Examined | DatasetError, picture: str, names: Mapping[int, str], findings: Findings
) -> Examined | None:
    taken = examined_or_left_out(examined, picture, findings)
    if taken is not None and (line := foreign_values(taken, {label: i for i, label in names.items()})):
        findings.problem(line)
        return None
    return taken
