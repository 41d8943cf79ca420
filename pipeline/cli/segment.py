"""``rcnn segment``."""

from pathlib import Path

import click

from cache.outputs import OutputFolder
from manifests.fonts import note_of_missing
from manifests.images import decode
from manifests.masks import encode_rle, label_map_png
from pipeline.cli.types import GivenPath, Number
from pipeline.progress import Reporter
from pipeline.workspace import open_params, untouchable
from stages.detections.drawing import drawn_jpeg
from stages.detections.search import Report
from stages.detections.suppression import Detection
from stages.segmentation.drawing import painted
from stages.segmenter import Segmenter

from .detect_large import note_of_large
from .picture_files import files_to_read
from .picture_work import PictureResult, coco_result, work_through

RESULTS = "segments.json"
_DRAWN = ".segments.jpg"  # not .jpg, which is what `rcnn detect` draws


@click.command()
@click.argument("images", nargs=-1, required=True, type=GivenPath(path_type=Path), metavar="IMAGE|FOLDER...")
@click.option("--out", type=GivenPath(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
@click.option(
    "--threshold",
    type=Number(),
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
    pictures = _Pictures(segmenter, threshold, outputs)
    worked = work_through(files, segmenter, pictures, workers=execution.workers, log=log, unit="regions")
    outputs.write(RESULTS, worked.as_json())
    seen = len(files) - len(worked.problems)
    click.echo(f"{seen} maps of {len(worked.results)} regions, listed in {out / RESULTS}")
    worked.raise_problems()


class _Pictures:
    """Segments one image after another and writes the map and the drawing of each into ``outputs``."""

    def __init__(self, segmenter: Segmenter, threshold: float | None, outputs: OutputFolder) -> None:
        self._segmenter, self._threshold, self._outputs = segmenter, threshold, outputs

    def __call__(self, path: Path, name: Path, report: Report) -> PictureResult:
        """Look at one picture; DatasetError or StageError where it cannot be read."""
        found = self._segmenter(path, threshold=self._threshold, report=report)
        report("drawing")
        picture = decode(path.read_bytes(), str(path))
        shown = [Detection(one.label, one.score, one.box) for one in found.segments]
        over = painted(picture.pixels, found.labels)
        drawn = drawn_jpeg(over, shown, self._segmenter.classes, str(path))
        self._outputs.write(_map_name(name), label_map_png(found.labels, str(path)))
        self._outputs.write(name, drawn)
        ids = self._segmenter.category_ids
        results = [
            coco_result(path, one.box, one.label, one.score, ids[one.label], segmentation=encode_rle(one.mask))
            for one in found.segments
        ]
        return PictureResult(picture.missing, results, len(results))


def _map_name(drawn: Path) -> Path:
    """Name the map beside a drawing."""
    return drawn.with_name(f"{drawn.name.removesuffix(_DRAWN)}.png")
