"""``rcnn detect``."""

import math
from collections.abc import Sequence
from pathlib import Path

import click

from cache.outputs import OutputFolder
from manifests.fonts import note_of_missing
from manifests.images import decode
from pipeline.cli.types import GivenPath, Number
from pipeline.progress import Reporter
from pipeline.workspace import current_layout, open_params, untouchable
from stages.detections.drawing import drawn_jpeg
from stages.detections.precise import Precise
from stages.detections.search import Report
from stages.detector import Detector

from .detect_large import note_of_large
from .picture_files import files_to_read
from .picture_work import PictureResult, coco_result, work_through

RESULTS = "detections.json"


@click.command()
@click.argument("images", nargs=-1, required=True, type=GivenPath(path_type=Path), metavar="IMAGE|FOLDER...")
@click.option("--out", type=GivenPath(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
@click.option(
    "--min-score",
    type=Number(),
    help="Draw and write only detections that score at least this.  [default: draw from each class's best-F1 score of "
    "the last evaluation, write what the pipeline keeps]",
)
@click.option(
    "--min-precision",
    type=Number(0, 1, max_open=True),
    help="Draw detections whose precision on the evaluated curve is above this, labelled with it (the paper's figures: "
    "0.5).",
)
@click.option("--no-bbox", is_flag=True, help="Without bounding-box regression.")
@click.pass_obj
def detect(
    project: Path,
    images: tuple[Path, ...],
    out: Path,
    min_score: float | None,
    min_precision: float | None,
    no_bbox: bool,
) -> None:
    """Detect objects in images, or in all images of folders, with the detector trained last.

    Writes each image with its detections drawn, and detections.json: COCO results with the file's name added to each,
    down to the scores that the pipeline keeps for evaluation.
    An image that cannot be read is named at the end (exit code 2); the others are done all the same.
    No file is replaced but those that an earlier `rcnn detect` wrote to the folder, and nobody changed since; these are
    not read as images either, where the folder lies in one that is searched. Several images are worked on at a time, as
    far as 2 GiB of memory reach for them; one that needs more, some 100 bytes a pixel searched, is worked on alone.
    """
    if min_score is not None and min_precision is not None:
        raise click.UsageError("--min-score and --min-precision: give one of the two")
    files, passed_over = files_to_read(images, ".jpg", [RESULTS])
    outputs = OutputFolder(out, "give another folder by --out")
    outputs.check([RESULTS, *(name for _, name in files)], [path for path, _ in files], untouchable(project))
    execution = open_params(project).execution
    detector = Detector.load(project, name=current_layout(project).name, device=execution.device)
    log = Reporter("detect")
    precise = None
    if min_precision is not None:
        precise = Precise(detector.precision_curves(box_regression=not no_bbox), min_precision)
    is_own = min_score is None and precise is None
    _say_before(log, detector, [path for path, _ in files], passed_over, is_own_score=is_own)
    outputs.prepare()
    pictures = _Pictures(detector, min_score, precise, box_regression=not no_bbox, outputs=outputs)
    worked = work_through(files, detector, pictures, workers=execution.workers, log=log, unit="objects")
    outputs.write(RESULTS, worked.as_json())
    seen = len(files) - len(worked.problems)
    click.echo(f"{worked.drawn} objects drawn in {seen} images, {len(worked.results)} detections in {out / RESULTS}")
    worked.raise_problems()


def _say_before(
    log: Reporter, detector: Detector, files: Sequence[Path], passed_over: Sequence[str], *, is_own_score: bool
) -> None:
    """Tell what the user should know before hours are spent."""
    if is_own_score and not detector.is_evaluated:
        log.warning(
            "the last evaluation was not of this detector alone (combine.detectors, or no evaluation since), so there "
            "are no best-F1 scores; drawn is what scores above the classifier's own boundary: --min-score sets another"
        )
    if missing := note_of_missing(detector.classes):
        log.warning(missing)
    for line in passed_over:
        log.info(line)
    if large := note_of_large(files, detector):
        log.info(large)


class _Pictures:
    """Detects in one image after another and draws what it shows of each into ``outputs``."""

    def __init__(
        self,
        detector: Detector,
        min_score: float | None,
        precise: Precise | None,
        *,
        box_regression: bool,
        outputs: OutputFolder,
    ) -> None:
        self._detector, self._box_regression, self._outputs = detector, box_regression, outputs
        self._precise = precise
        self._least = -math.inf if min_score is None else min_score
        everything = dict.fromkeys(detector.classes, -math.inf)
        is_own = min_score is None
        self._kept_from = detector.kept_from if is_own else everything
        self._shown_from = detector.shown_from(box_regression=box_regression) if is_own else everything

    def __call__(self, path: Path, name: Path, report: Report) -> PictureResult:
        """Look at one picture; DatasetError or StageError where it cannot be read."""
        found = self._detector(path, min_score=self._least, box_regression=self._box_regression, report=report)
        found = [d for d in found if d.score >= self._kept_from[d.label]]
        if self._precise is None:
            shown = [d for d in found if d.score >= self._shown_from[d.label]]
        else:
            shown = self._precise(found)
        report("drawing")
        picture = decode(path.read_bytes(), str(path))
        self._outputs.write(name, drawn_jpeg(picture.pixels, shown, self._detector.classes, str(path)))
        ids = self._detector.category_ids
        results = [coco_result(path, d.box, d.label, d.score, ids[d.label]) for d in found]
        return PictureResult(picture.missing, results, len(shown))
