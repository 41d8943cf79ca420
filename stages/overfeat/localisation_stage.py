"""Stage ``localisation``: the error of one box per guessed class, by how many scales merge (OverFeat Figure 9).

Reads the scored windows of the test images, and of ``merge`` the ``t`` that it found; writes ``localisation.json``:
error rates in percent over the images whose objects are of one class (:mod:`.localisation`). Cost: some ms per image.
"""

from cache import atomic_write
from cache.documents import json_text
from manifests.select import without_duplicates
from stages.contract import Context

from .agreement import merge_of, slide_of
from .localisation import LocalisationErrors, all_guesses, fewer_classes, target_of
from .settings import LocalisationSettings, MergeSettings
from .windows import ARRAYS, ScoredWindows


def run(ctx: Context) -> None:
    """Count the errors of each way to guess."""
    settings, by = ctx.settings(LocalisationSettings), ctx.settings(MergeSettings)
    dataset, manifest = ctx.dataset(), ctx.input("manifest")
    slide = slide_of(ctx.artifact("slide"), dataset.classes, by.k, manifest, ctx.shown("slide"))
    params = by.model_dump(mode="json")
    merge = merge_of(ctx.artifact("merge"), ctx.input("slide"), params, manifest, ctx.shown("merge"))
    by = fewer_classes(by.model_copy(update={"t": merge.summary["t"]}), settings.k)
    tested = without_duplicates(dataset.split("test"))
    targets = [(record, target) for record in tested if (target := target_of(record)) is not None]
    names = ["centre_window", "centre_regressed", *(f"merged_{count}" for count in settings.first_scales), "merged"]
    errors = {name: LocalisationErrors(settings.iou) for name in names}
    for done, (record, target) in enumerate(targets, 1):
        windows = ScoredWindows(**ctx.store.get(slide.stage, slide.keys[record.id], ARRAYS).arrays)
        found = all_guesses(windows, settings.first_scales, by, record.width, record.height)
        for name in names:
            errors[name].add(found[name], target)
        ctx.log.progress(done, len(targets), "images")
    rates = {name: counted.rates(settings.guesses, len(dataset.classes)) for name, counted in errors.items()}
    report = {"iou": settings.iou, "guesses": settings.guesses, "k": by.k, "classes": len(dataset.classes), **rates}
    atomic_write(ctx.output("report"), json_text(report).encode())
    if not targets:
        ctx.log.warning("no test image shows objects of one class alone, so there is no localisation error")
        return
    for name, own in rates.items():
        ctx.log.info(f"{name}: {_told(own)}")


def _told(rates: dict[str, int | float | None]) -> str:
    """Word the rates of one way, those that there are: ``top1_error 12.50%, topn_error 3.12%, ...``."""
    return ", ".join(f"{what} {rate:.2f}%" for what, rate in rates.items() if what != "images" and rate is not None)
