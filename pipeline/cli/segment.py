"""``rcnn segment``."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click

from cache.errors import StageError
from cache.outputs import OutputFolder
from manifests import DatasetError
from manifests.fonts import note_of_missing
from manifests.images import decode, upright_size
from manifests.masks import encode_rle, label_map_png
from pipeline.hardware import default_workers
from pipeline.progress import Reporter
from pipeline.workspace import open_params, untouchable
from stages.detections.drawing import drawn_jpeg
from stages.detections.suppression import Detection
from stages.segmentation.drawing import painted
from stages.segmenter import PastedRegion, Segmenter

from .detect_large import Room, Watch, note_of_large
from .picture_files import Named, files_to_read

RESULTS = "segments.json"
_DRAWN = ".segments.jpg"  # not .jpg, which is what `rcnn detect` draws


@click.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE|FOLDER...")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
@click.option(
    "--threshold",
    type=float,
    help="Paste regions that score above this, an expected overlap.  [default: what paste.threshold was found to be]",
)
@click.pass_obj
def segment(project: Path, images: tuple[Path, ...], out: Path, threshold: float | None) -> None:
    """Say the class of every pixel of images, or of all images of folders, by the segmentation trained last.

    Writes for each image NAME.png, its map of classes with VOC's palette (0 background, then the classes in their
    order), and NAME.segments.jpg, the map and its regions drawn over the image; and segments.json: the regions as COCO
    results with run-length masks and scores, the file's name added to each. `dvc repro segmentation/dvc.yaml` trains.
    An image that cannot be read is named at the end (exit code 2); the others are done all the same.
    No file is replaced but those that an earlier run wrote to the folder, and nobody changed since.
    """
    files, passed_over = files_to_read(images, _DRAWN, [RESULTS])
    outputs = OutputFolder(out, "give another folder by --out")
    names = [name for _, drawn in files for name in (drawn, _map_name(drawn))]
    outputs.check([RESULTS, *names], [path for path, _ in files], untouchable(project))
    execution = open_params(project).execution
    segmenter = Segmenter.load(project, device=execution.device)
    log = Reporter("segment")
    for line in (*passed_over, note_of_missing(segmenter.classes), note_of_large([p for p, _ in files], segmenter)):
        if line:
            log.info(line)
    outputs.prepare()
    results: list[dict[str, Any]] = []
    problems: list[str] = []
    watch = Watch(log)
    pictures = _Pictures(segmenter, threshold, outputs, log, watch)
    with watch.looking(), ThreadPoolExecutor(execution.workers or default_workers()) as pool:
        for number, found in enumerate(pool.map(pictures, files), 1):
            if isinstance(found, DatasetError | StageError):
                problems.append(str(found))
                continue
            results += [{"image_id": number, **one} for one in found]
            log.progress(number, len(files), "images", f"{len(results)} regions")
    outputs.write(RESULTS, (json.dumps(results, indent=1) + "\n").encode())
    click.echo(f"{len(files) - len(problems)} maps of {len(results)} regions, listed in {out / RESULTS}")
    if problems:
        raise StageError("\n".join(problems))


class _Pictures:
    """Segments one image after another and writes the map and the drawing of each into ``outputs``."""

    def __init__(
        self, segmenter: Segmenter, threshold: float | None, outputs: OutputFolder, log: Reporter, watch: Watch
    ) -> None:
        self._segmenter, self._threshold, self._outputs = segmenter, threshold, outputs
        self._log, self._watch, self._room = log, watch, Room()

    def __call__(self, item: Named) -> list[dict[str, Any]] | DatasetError | StageError:
        """Return the regions as COCO results, encoded here: those of images that wait take little memory then.

        Or why the image cannot be read.
        """
        path, name = item
        extent = upright_size(path)  # None: no image, which reading it will tell
        try:
            needed = 0 if extent is None else self._segmenter.bytes_needed(*extent)
        except StageError as error:
            return StageError(f"{path}: {error}")
        with self._room.taken(needed), self._watch.over(path) as report:
            try:
                found = self._segmenter(path, threshold=self._threshold, report=report)
                report("drawing")
                picture = decode(path.read_bytes(), str(path))
                shown = [Detection(one.label, one.score, one.box) for one in found.segments]
                over = painted(picture.pixels, found.labels)
                drawn = drawn_jpeg(over, shown, self._segmenter.classes, str(path))
            except (DatasetError, StageError) as error:
                return error
            if picture.missing:
                self._log.warning(f"{path}: {picture.missing}")
            self._outputs.write(_map_name(name), label_map_png(found.labels, str(path)))
            self._outputs.write(name, drawn)
            return [_result(path, one, self._segmenter.category_ids[one.label]) for one in found.segments]


def _map_name(drawn: Path) -> Path:
    """Name the map beside a drawing."""
    return drawn.with_name(f"{drawn.name.removesuffix(_DRAWN)}.png")


def _result(path: Path, one: PastedRegion, category_id: int) -> dict[str, Any]:
    x1, y1, x2, y2 = one.box
    return {
        "category_id": category_id,
        "segmentation": encode_rle(one.mask),
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "score": one.score,
        "category": one.label,
        "file_name": str(path),
    }
