"""A run's detections as ILSVRC's devkit takes them, for ``rcnn detections save --format ilsvrc``."""

from collections.abc import Sequence
from pathlib import Path

from cache import Artifact
from cache.errors import DatasetError
from cache.outputs import OutputFolder
from manifests.files import read_bytes
from manifests.text import decode_text, text_lines
from manifests.values import read_integer
from pipeline.progress import Reporter
from pipeline.workspace import current_dataset, open_store, untouchable
from stages.scoring.files import WITH_BBOX, ilsvrc_lines, voc_image_ids
from stages.scoring.reading import evaluated_images, read_detections, thresholds

from .put_aside import check_free

_SHOWN = 5


def write_ilsvrc(
    project: Path, artifact: Artifact, name: str, list_file: Path | None, folder: Path, *, force: bool
) -> list[Path]:
    """Write ``NAME.txt`` into ``folder``, and ``NAME_list.txt`` where no list was given; returns what was written.

    Args:
        artifact: the detections; those with box regression are written, as they are scored.
        list_file: the devkit's list, whose numbers the images have; None: 1, 2, ... in the manifest's order.
    """
    dataset = current_dataset(project)
    records = evaluated_images(dataset, artifact, with_duplicates=True)
    names = voc_image_ids([record.file_name for record in records])
    numbers = list(range(1, len(names) + 1)) if list_file is None else _numbers(list_file, names)
    outputs = OutputFolder(folder, "give another name or folder, or --force to replace it", force=force)
    written = [f"{name}.txt", *([f"{name}_list.txt"] if list_file is None else [])]
    outputs.check(written, [] if list_file is None else [list_file], untouchable(project))
    limits = thresholds(artifact.summary, dataset.classes)
    found = read_detections(open_store(project), artifact, records, (WITH_BBOX,), limits, Reporter("detections"))[
        WITH_BBOX
    ]
    contents = ["".join(ilsvrc_lines(found, numbers, dataset.category_ids)).encode()]
    if list_file is None:
        contents.append("".join(f"{image} {number}\n" for image, number in zip(names, numbers, strict=True)).encode())
    for file, data in zip(written, contents, strict=True):
        check_free(folder / file, data, "results", force=force)
    outputs.prepare()
    for file, data in zip(written, contents, strict=True):
        outputs.write(file, data)
    return [folder / one for one in written]


def _numbers(file: Path, names: Sequence[str]) -> list[int]:
    """Return each image's number in a list of lines ``image number``; DatasetError where some are not in it."""
    number_of: dict[str, int] = {}
    taken: dict[int, str] = {}
    for line_number, line in enumerate(text_lines(decode_text(read_bytes(file, str(file)), str(file))), 1):
        parts = line.split()
        number = read_integer(parts[1]) if len(parts) == 2 else None
        if parts and number is None:
            raise DatasetError(f"{file}: line {line_number}: {line[:60]!r} is not an image and its number; correct it")
        if number is None:
            continue
        if number < 1:
            raise DatasetError(f"{file}: line {line_number}: number {number} is below 1; correct it")
        if parts[0] in number_of:
            raise DatasetError(f"{file}: line {line_number}: {parts[0]} stands there a second time; remove one line")
        if number in taken:
            raise DatasetError(f"{file}: line {line_number}: number {number} is {taken[number]}'s already; correct it")
        number_of[parts[0]], taken[number] = number, parts[0]
    lacking = [name for name in names if name not in number_of]
    if lacking:
        more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
        raise DatasetError(
            f"{file}: has no line of the test images {', '.join(lacking[:_SHOWN])}{more}; give the list of the split "
            "that was tested on, or leave --list out"
        )
    return [number_of[name] for name in names]
