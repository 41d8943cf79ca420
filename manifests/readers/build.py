"""Making a checked dataset of what a reader found in its source, for all formats."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from cache.cores import reading_threads
from cache.errors import DatasetError
from cache.text import nearest
from manifests.dataset import Dataset, ImageRecord
from manifests.files import sha256_of, why_unsafe
from manifests.images import decode
from manifests.listing import Listing
from manifests.names import same_name
from manifests.source import ImageSource

from .checks import ImageFile, ObjectChecks
from .findings import Findings, FoundImage, FoundObject
from .options import ReadOptions
from .unannotated import without_objects

_FAR = 0.5  # of a split's share: a drawn one that is off by more is noted


def build_dataset(
    name: str,
    root: Path,
    found: Sequence[FoundImage],
    categories: Mapping[str, int],
    options: ReadOptions,
    findings: Findings,
    listing: Listing,
) -> tuple[Dataset, list[str]]:
    """Check every image and box, and make the dataset; returns it with all notes.

    ``categories`` are the classes in order, with their category ids. Images keep the source's ids, or get 1.. in the
    order of their file names. ``listing`` is what lies below ``root``: each picture of it that is not taken is counted
    in a note. Raises DatasetError with all problems, those already in ``findings`` among them.
    """
    claimed = {image.file_name for image in found}
    found = sorted(_usable_names(root, found, findings), key=lambda image: image.file_name)
    if not found and not findings.stops:
        findings.fatal(f"{root}: the dataset has no images; check the path and the format")
    splits = _splits(found, options, findings)
    _check_in_part({name for _, names in splits.values() for name in names}, options, findings)
    checks = ObjectChecks({label: i for i, label in enumerate(categories)}, options, findings)
    records = list(_records(root, found, splits, checks))
    has_objects = any(len(record.boxes) or record.category is not None for record in records)
    if found and not findings.stops:
        if not records:
            findings.fatal(f"{root}: no usable image is left; correct the other problems first")
        elif not has_objects:
            findings.fatal(
                f"{root}: no object was found for any of its {len(records)} images; check that their annotations are "
                "there, under the images' names and in the format that was given"
            )
    _note_drawn(found, records, options, findings)
    checks.note_tally()
    _note_repeated_pictures(records, findings)
    dataset = Dataset(name, tuple(categories), tuple(records), tuple(categories.values()))
    _note_classes(dataset, findings)
    if has_objects and dataset.has_boxes and any(image.splits for image in found):
        without_objects(dataset, findings)
    _note_left_out(listing, claimed, {record.file_name for record in records}, findings)
    return dataset, findings.conclude(passable=has_objects)


def _records(
    root: Path, found: Sequence[FoundImage], splits: Mapping[str, tuple[str, tuple[str, ...]]], checks: ObjectChecks
) -> Iterator[ImageRecord]:
    """The usable images with their usable objects; every other one is a problem, or a note."""
    findings = checks.findings
    files = _check_files(root, found, checks.options)
    for number, (image, file) in enumerate(zip(found, files, strict=True), start=1):
        if isinstance(file, DatasetError):
            findings.problem(file)
            if image.stated is not None:  # so that what is wrong with its boxes is told in the same report
                stated = ImageFile("", *image.stated, orientation=1)
                replace(checks, tally=Counter()).usable(image.where, image.objects, stated)
            continue
        if file.missing:
            findings.note(f"{image.file_name}: ends early: {file.missing}; it is taken as it is", "ends early")
        stated_objects = checks.upright(image, file)
        if stated_objects is None or not checks.masks_fit(image, file):
            continue
        usable = checks.usable(image.where, stated_objects, file)
        objects = checks.drawable(image, usable, file)
        total = len(stated_objects) + image.unreadable
        if total and not objects:
            # kept, it would teach that what it shows is background
            why = f"none of its {total} objects can be used" if total > 1 else "its only object cannot be used"
            findings.note(f"left out: {image.where}: the whole image {image.file_name}: {why}", "image")
        elif len(objects) < len(usable):  # kept, it would say that the others' pixels are background
            why = f"the masks of {len(usable) - len(objects)} of its {total} objects cannot be used"
            line = f"left out: {image.where}: the whole image {image.file_name}: {why}"
            findings.left_out([image.file_name], line, "masks")
        else:
            if len(objects) < total:
                kept = f"{len(objects)} of its {total} objects"
                findings.note(f"kept: {image.where}: the image {image.file_name} with {kept}", "kept")
            whole = image.exhaustive and set(splits[image.file_name][1]).isdisjoint(checks.options.in_part)
            taken = replace(image, exhaustive=whole)
            yield _record(taken, number, file, splits[image.file_name], objects, checks.label_of)


def _check_in_part(splits: Collection[str], options: ReadOptions, findings: Findings) -> None:
    for name in options.in_part:
        if name not in splits:
            findings.fatal(
                f"--in-part {name}: the dataset has no such split{nearest(name, splits)}; it has: "
                f"{', '.join(sorted(splits)) or 'none'}"
            )
        elif name in options.unannotated:
            findings.fatal(f"--in-part {name}: --unannotated names it, too; name it in one of the two")


def _usable_names(root: Path, found: Sequence[FoundImage], findings: Findings) -> Iterator[FoundImage]:
    ids: dict[int, str] = {}
    names: set[str] = set()
    for image in found:
        reason = why_unsafe(image.file_name)
        if reason:
            findings.problem(f"{image.file_name}: {reason}; name the file relative to {root}")
        elif image.file_name in names:
            findings.problem(f"{image.where}: file name {image.file_name!r} occurs more than once; keep one entry")
        elif image.id is not None and image.id in ids:
            findings.problem(
                f"{image.where}: image id {image.id} is already that of {ids[image.id]}; give each image its own id"
            )
        else:
            names.add(image.file_name)
            if image.id is not None:
                ids[image.id] = image.file_name
            yield image


def _splits(
    found: Sequence[FoundImage], options: ReadOptions, findings: Findings
) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return, by file name, the image's own split and all splits that it is in."""
    if not any(image.splits for image in found):
        drawn = {image.file_name: drawn_split(image.file_name, options.seed, options.fractions) for image in found}
        return {name: (split, (split,)) for name, split in drawn.items()}
    counts = Counter(split for image in found for split in image.splits)
    for image in found:
        if "test" in image.splits and len(image.splits) > 1:
            others = ", ".join(sorted(set(image.splits) - {"test"}))
            findings.note(f"{image.file_name}: is in split test and also in {others}")
    return {image.file_name: (most_specific(image.splits, counts), tuple(sorted(set(image.splits)))) for image in found}


def _check_files(root: Path, found: Sequence[FoundImage], options: ReadOptions) -> Iterator[ImageFile | DatasetError]:
    """Read, hash and fully decode every image, in threads (the decoders release the interpreter lock)."""
    source = ImageSource(root)

    def check(image: FoundImage) -> ImageFile | DatasetError:
        try:
            data = source.file_bytes(image.file_name)
            decoded = decode(data, image.file_name, max_pixels=options.max_pixels)
        except DatasetError as error:
            return error
        height, width = decoded.pixels.shape[:2]
        return ImageFile(sha256_of(data), width, height, decoded.orientation, decoded.missing)

    with ThreadPoolExecutor(reading_threads()) as pool:
        yield from pool.map(check, found)


def _record(
    image: FoundImage,
    number: int,
    file: ImageFile,
    splits: tuple[str, tuple[str, ...]],
    objects: Sequence[FoundObject],
    label_of: Mapping[str, int],
) -> ImageRecord:
    return ImageRecord(
        id=number if image.id is None else image.id,
        file_name=image.file_name,
        width=file.width,
        height=file.height,
        sha256=file.sha256,
        split=splits[0],
        splits=splits[1],
        boxes=np.array([item.box for item in objects], np.float32).reshape(-1, 4),
        labels=np.array([label_of[item.label] for item in objects], np.int64),
        difficult=np.array([item.difficult for item in objects], bool),
        truncated=np.array([item.truncated for item in objects], bool),
        crowd=np.array([item.crowd for item in objects], bool),
        details=tuple(item.details for item in objects),
        category=None if image.category is None else label_of[image.category],
        annotated=image.annotated,
        exhaustive=image.exhaustive,
        unscored=tuple(sorted(label_of[name] for name in image.unscored if name in label_of)),
        masks=image.masks,
    )


def _note_drawn(
    found: Sequence[FoundImage], records: Sequence[ImageRecord], options: ReadOptions, findings: Findings
) -> None:
    if any(image.splits for image in found):
        return
    counts = Counter(record.split for record in records)
    shares = ", ".join(f"{name} {counts[name]} images" for name in options.fractions)
    findings.note(f"the source has no splits: drawn by seed {options.seed} from the file names: {shares}")
    total = len(records)
    for name, share in options.fractions.items():
        drawn = counts[name] / max(total, 1)
        if total and abs(drawn - share) > _FAR * share:
            findings.note(
                f"split {name} got {counts[name]} of {total} images, a share of {drawn:.3g} where {share:.3g} was "
                "asked for: few images are drawn unevenly; try another --seed or --test-fraction"
            )


def _note_repeated_pictures(records: Sequence[ImageRecord], findings: Findings) -> None:
    first: dict[str, ImageRecord] = {}
    for record in records:
        other = first.setdefault(record.sha256, record)
        if other is not record:
            across = "" if other.split == record.split else f", across the splits {other.split} and {record.split}"
            findings.note(f"{record.file_name}: is the same picture as {other.file_name}{across}")


def _note_classes(dataset: Dataset, findings: Findings) -> None:
    """Say which classes hardly differ in name, and which have no object."""
    alike: dict[str, list[str]] = defaultdict(list)
    for label in dataset.classes:
        alike[same_name(label)].append(label)
    for labels in alike.values():
        if len(labels) > 1:
            shown = ", ".join(map(repr, labels))
            findings.note(
                f"classes {shown} differ in case, spaces or Unicode form only; they are kept as {len(labels)}"
            )
    used = {label for image in dataset.images for label in (*image.labels.tolist(), image.category)}
    unused = [repr(label) for i, label in enumerate(dataset.classes) if i not in used]
    if dataset.images and unused:
        shown = ", ".join(unused[:8]) + (", ..." if len(unused) > 8 else "")
        classes = "class has" if len(unused) == 1 else "classes have"
        findings.note(f"{len(unused)} {classes} no object ({shown}); manifest.classes can leave out what is not meant")


def _note_left_out(listing: Listing, claimed: set[str], taken: set[str], findings: Findings) -> None:
    """Account for every picture that was seen: it is taken, or a line counts it.

    ``claimed``: the pictures that the source names; of those that are not taken a problem or a note tells already.
    """
    told = claimed | findings.told
    unread, hidden = (tuple(n for n in names if n not in told) for names in (listing.unread, listing.hidden))
    for line in replace(listing, unread=unread, hidden=hidden).passed_over:
        findings.note(line)
    if rest := [name for name in listing.pictures if name not in told]:
        pictures = (
            "1 picture that no annotation or list names is"
            if len(rest) == 1
            else (f"{len(rest)} pictures that no annotation or list names are")
        )
        findings.note(f"{pictures} left out (such as {rest[0]})")
    if left := listing.seen - taken:
        seen = len(listing.seen | taken)
        findings.note(f"pictures: {seen} seen, {len(taken)} taken, {len(left)} left out")


def drawn_split(file_name: str, seed: int, fractions: Mapping[str, float]) -> str:
    """The split of one image by a hash of its name: independent of all other images, so adding one moves none."""
    digest = hashlib.sha256(f"{seed}\0{file_name}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64  # uniform in [0, 1)
    edge = 0.0
    for name, fraction in fractions.items():
        edge += fraction
        if position < edge:
            return name
    return [name for name, fraction in fractions.items() if fraction > 0][-1]  # the sum may fall short by rounding


def most_specific(splits: Sequence[str], image_counts: Counter[str]) -> str:
    """Choose the split of one image's that has the fewest images: VOC's ``train`` rather than ``trainval``."""
    return min(splits, key=lambda name: (image_counts[name], name))
