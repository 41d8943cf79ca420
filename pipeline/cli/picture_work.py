"""Pictures worked on several at a time, as `rcnn detect` and `rcnn segment` do: memory, problems, results in order."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cache.cores import usable_cores
from cache.errors import StageError
from manifests import DatasetError
from manifests.images import upright_size
from pipeline.progress import Reporter
from stages.detections.search import Report

from .detect_large import Room, Searching, Watch
from .picture_files import Named


@dataclass(frozen=True)
class PictureResult:
    """What was found in one picture.

    Attributes:
        missing: what a file that ends early lacks, or "".
        results: COCO results, without the image's number; masks as run lengths, since a picture waits for its turn.
        drawn: how many things are drawn.
    """

    missing: str
    results: Sequence[dict[str, Any]]
    drawn: int


@dataclass
class Worked:
    """What was found in all pictures: COCO results in the files' order, and a line for each that cannot be read."""

    results: list[dict[str, Any]] = field(default_factory=list)
    drawn: int = 0
    problems: list[str] = field(default_factory=list)

    def as_json(self) -> bytes:
        """Return the results as a file's content."""
        return (json.dumps(self.results, indent=1) + "\n").encode()

    def raise_problems(self) -> None:
        """StageError with a line for each picture that cannot be read, if there is any."""
        if self.problems:
            raise StageError("\n".join(self.problems))


# Looks at a picture and writes what it draws; told where to, and whom to tell what is being done.
Look = Callable[[Path, Path, Report], PictureResult]


def work_through(
    files: Sequence[Named], searcher: Searching, look: Look, *, workers: int, log: Reporter, unit: str
) -> Worked:
    """Look at every picture, so many at a time (0: one a core) as far as memory reaches; ``unit``: what is drawn."""
    watch, room, worked = Watch(log), Room(), Worked()

    def one(item: Named) -> PictureResult | DatasetError | StageError:
        path, name = item
        extent = upright_size(path)  # None: no image, which reading it will tell
        try:
            needed = 0 if extent is None else searcher.bytes_needed(*extent)
        except StageError as error:
            return StageError(f"{path}: {error}")
        with room.taken(needed), watch.over(path) as report:
            try:
                return look(path, name, report)
            except (DatasetError, StageError) as error:
                return error

    with watch.looking(), ThreadPoolExecutor(workers or usable_cores()) as pool:
        for number, (found, (path, _)) in enumerate(zip(pool.map(one, files), files, strict=True), 1):
            if not isinstance(found, PictureResult):
                worked.problems.append(str(found))
                continue
            if found.missing:
                log.warning(f"{path}: {found.missing}")
            worked.results += [{"image_id": number, **result} for result in found.results]
            worked.drawn += found.drawn
            log.progress(number, len(files), "images", f"{worked.drawn} {unit}")
    return worked


def coco_result(
    path: Path, box: Sequence[float], label: str, score: float, category_id: int, **more: Any
) -> dict[str, Any]:
    """Make a COCO result of what was found in a box (x1, y1, x2, y2 px); class and file by name, too."""
    x1, y1, x2, y2 = box
    return {
        "category_id": category_id,
        **more,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "score": score,
        "category": label,
        "file_name": str(path),
    }
