"""diagnose: detections, the manifest and a table of characteristics -> ``reports/analysis/diagnosis.html``.

``dvc repro analysis/dvc.yaml`` or ``rcnn [-d NAME] run diagnose``; a second for thousands of images. Writes the page
(paper figures 5 and 6, TIDE) and ``diagnosis.json``, all of its figures.
"""

from cache import atomic_write
from cache.documents import json_text
from cache.errors import StageError
from manifests import load_dataset
from stages.contract import Context
from stages.scoring.files import WITH_BBOX, WITHOUT_BBOX
from stages.scoring.reading import evaluated_images, read_detections, thresholds

from .document import diagnosed, nothing_annotated
from .page import page
from .settings import DiagnoseSettings
from .table import Table, no_such_table, object_rows, read_table


def run(ctx: Context) -> None:
    """Diagnose the detections of the test split and write the page."""
    dataset, detect, settings = ctx.dataset(), ctx.artifact("detections"), ctx.settings(DiagnoseSettings)
    tested = evaluated_images(dataset, detect)
    if (problem := nothing_annotated(tested, "manifest.test")) is not None:
        raise StageError(problem)
    table = Table({})
    if settings.characteristics is not None:
        folder = ctx.input("characteristics")
        path = folder / f"{settings.characteristics}.csv"
        if not path.exists():
            raise StageError(no_such_table(folder, settings.characteristics))
        table = read_table(path, object_rows(load_dataset(ctx.input("registered")), tested, dataset.classes))
    sets = (WITH_BBOX, WITHOUT_BBOX) if detect.summary["regressed"] else (WITH_BBOX,)
    found = read_detections(ctx.store, detect, tested, sets, thresholds(detect.summary, dataset.classes), ctx.log)
    title = f"{detect.summary.get('detector', ctx.shown('detections'))} on {dataset.name}"
    made = diagnosed(title, tested, dataset.classes, found, table.values, settings, table.notes)
    atomic_write(ctx.output("figures"), json_text(made.document()).encode())
    atomic_write(ctx.output("html"), page(made).encode())
    for line in made.notes:
        ctx.log.warning(line)
    ctx.log.info(f"{ctx.shown('html')}: {made.summary()}")
