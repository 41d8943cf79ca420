"""units: regions' features -> ``reports/analysis/units.html``, the regions that units respond to most (Figure 4).

``dvc repro analysis/dvc.yaml`` or ``rcnn [-d NAME] run units``, of a detector that stores regions' features. The
strongest regions of all units are an object of the store, the same that ``rcnn features units`` makes and finds.
"""

from cache import atomic_write
from cache.text import counted
from stages.contract import Context

from .page import chosen
from .settings import ScoredLayerSettings, UnitsSettings
from .shown import CropReader, Made, drawn_page, strongest, told


def run(ctx: Context) -> None:
    """Find the strongest regions of every unit and write the page of the centre cell's."""
    settings, dataset = ctx.settings(UnitsSettings), ctx.dataset()
    made = Made.read(ctx.store, ctx.input("features"), ctx.input("weights"))
    layer = made.layer(settings.layer, ctx.settings(ScoredLayerSettings).layer)
    view = made.features.layer(layer, [image.id for image in dataset.images], read_ahead=2)
    _, found = strongest(ctx.store, made.artifact, view, settings, dataset.name, ctx.workers, ctx.log)
    cells = made.cells(layer)
    picked = chosen(found, cells, settings.channels)
    drawn = CropReader(made.crop, dataset, ctx.image, view, ctx.log)
    atomic_write(ctx.output("html"), drawn_page(found, cells, picked, settings.shown, made, drawn).encode())
    ctx.log.info(f"{told(found, layer, len(view))}; {ctx.shown('html')}: {counted(len(picked), 'unit')}")
