"""``rcnn features units``: which regions each unit of a layer responds to most, as an object and a page."""

from pathlib import Path

import click

from cache.cores import usable_cores
from cache.errors import ParamsError, StageError
from cache.outputs import OutputFolder
from cache.text import counted
from manifests import ImageSource
from pipeline.cli.types import GivenPath
from pipeline.context import registered_folder
from pipeline.progress import Reporter
from pipeline.workspace import current_dataset, current_layout, open_params, open_store, untouchable
from stages.svm.settings import SvmSettings
from stages.units.cells import Cells, evenly_spaced
from stages.units.page import chosen
from stages.units.settings import UnitsSettings
from stages.units.shown import CropReader, Made, drawn_page, strongest, told

from .stored import stored_node

_DEFAULT = UnitsSettings()


@click.command()
@click.option("--layer", default=None, help="Which stored layer (default: pool5 where it is stored, else svm.layer).")
@click.option("--top", type=click.IntRange(1, 100_000), default=_DEFAULT.top, help="Activations kept of each unit.")
@click.option(
    "--unit",
    "asked",
    multiple=True,
    metavar="Y,X,C",
    help="Show this unit: cell and channel, or of a layer without cells its number; may be given several times.  "
    "[default: the centre cell's first --channels]",
)
@click.option(
    "--channels",
    type=click.IntRange(1, 10_000),
    default=_DEFAULT.channels,
    help="Units on the page, where none is named.",
)
@click.option("--shown", type=click.IntRange(1, 1000), default=_DEFAULT.shown, help="Regions on the page of each unit.")
@click.option(
    "--early-floor",
    is_flag=True,
    help="Fill lists as the authors' explorer: what is not above a list's last is passed over before it is full, too.",
)
@click.option("--split", type=click.Choice(["train", "test"]), default=None, help="Only these images (default: all).")
@click.option(
    "--field",
    type=click.Choice(["true", "explorer"]),
    default="true",
    help="The white box: the receptive field, or as the authors' explorer draws it, at even distances.",
)
@click.option("--out", type=GivenPath(file_okay=False, path_type=Path), help="Folder of the page.  [default: reports/]")
@click.pass_obj
def units(
    project: Path,
    layer: str | None,
    top: int,
    asked: tuple[str, ...],
    channels: int,
    shown: int,
    early_floor: bool,
    split: str | None,
    field: str,
    out: Path | None,
) -> None:
    """Find the regions that each unit of a layer responds to most (R-CNN paper, Figures 4 and 12).

    Reads the cached features once. The result, of all units, is an object of the store; units-LAYER.html shows some of
    them, channel and cell by the arrow keys. A second call reads no features.
    """
    if stored_node(project) != "features":
        raise StageError("features units: this detector stores whole images' maps, not regions' features, to look at")
    layout, store = current_layout(project), open_store(project)
    weights = layout.artifacts / "finetune" / "weights.safetensors"
    made = Made.read(store, layout.artifacts / "features" / "manifest.json", weights)
    layer = made.layer(layer, _svm_layer(project))
    dataset = current_dataset(project)
    ids = [image.id for image in (dataset.split(split) if split else dataset.images)]
    view = made.features.layer(layer, ids, read_ahead=2)
    cells = made.cells(layer)
    wanted = [_unit(text, cells, layer, made.features.dims[layer]) for text in asked]
    folder, log = out or layout.reports, Reporter("units")
    outputs, name = OutputFolder(folder, "give another folder by --out"), f"units-{layer}.html"
    outputs.check([name], protected=untouchable(project))
    outputs.prepare()
    workers = open_params(project).execution.workers or usable_cores()
    settings = UnitsSettings(top=top, early_floor=early_floor)
    key, found = strongest(store, made.artifact, view, settings, dataset.name, workers, log)
    if cells is not None and field == "explorer":
        cells = evenly_spaced(cells, made.network, layer)
    picked = chosen(found, cells, channels, wanted)
    source = ImageSource.registered(registered_folder(project, open_params(project).dataset))
    drawn = CropReader(made.crop, dataset, source.read, view, log)
    outputs.write(name, drawn_page(found, cells, picked, shown, made, drawn).encode())
    click.echo(f"{told(found, layer, len(view))}; object {store.describe('units', key)['path']}")
    click.echo(f"page of {counted(len(picked), 'unit')}: {folder / name}")


def _svm_layer(project: Path) -> str:
    return open_params(project).groups.of("svm", SvmSettings).layer


def _unit(text: str, cells: Cells | None, layer: str, length: int) -> tuple[int, ...]:
    """A unit's cell and channel, or number, from the command line."""
    limits = (length,) if cells is None else (cells.rows, cells.columns, cells.channels)
    form = "a number" if cells is None else "Y,X,C"
    parts = [part.strip() for part in text.split(",")]
    numbers = tuple(int(part) for part in parts if part.isascii() and part.isdigit())
    if len(numbers) != len(limits) or len(parts) != len(limits):
        what = "has no cells" if cells is None else "has cells"
        raise ParamsError(f"--unit {text}: layer {layer} {what}; write {form}, each from 0")
    if any(number >= limit for number, limit in zip(numbers, limits, strict=True)):
        raise ParamsError(
            f"--unit {text}: layer {layer} has {' x '.join(map(str, limits))} units"
            f"{'' if cells is None else ' (Y, X, C)'}, counted from 0"
        )
    return numbers
