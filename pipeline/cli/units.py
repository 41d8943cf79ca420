"""``rcnn features units``: which regions each unit of a layer responds to most, as an object and a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from numpy.typing import NDArray

from cache import Artifact, Store, digest_file
from cache.errors import ParamsError, StageError
from cache.outputs import OutputFolder
from cache.text import counted
from manifests import Dataset, ImageSource, load_dataset
from pipeline.context import registered_folder
from pipeline.hardware import default_workers
from pipeline.progress import Reporter
from pipeline.workspace import current_layout, open_params, open_store, untouchable
from stages.features.featureset import FeatureSet, LayerView
from stages.features.settings import FeaturesSettings
from stages.networks.network import Network
from stages.networks.settings import NetworkSettings
from stages.networks.weights import load_weights
from stages.svm.settings import SvmSettings
from stages.units.cells import Cells, cells_of, evenly_spaced
from stages.units.objects import collected, listed, payload_of, read_units, recipe_of
from stages.units.page import CropForm, ShownUnit, chosen, page
from stages.units.top import TopUnits

from .stored import stored_node


@click.command()
@click.option("--layer", default=None, help="Which stored layer (default: pool5 where it is stored, else svm.layer).")
@click.option("--top", type=click.IntRange(1, 100_000), default=1000, help="Activations kept of each unit.")
@click.option(
    "--unit",
    "asked",
    multiple=True,
    metavar="Y,X,C",
    help="Show this unit: cell and channel, or of a layer without cells its number; may be given several times.  "
    "[default: the centre cell's first --channels]",
)
@click.option("--channels", type=click.IntRange(1, 10_000), default=256, help="Units on the page, where none is named.")
@click.option("--shown", type=click.IntRange(1, 1000), default=16, help="Regions on the page of each unit.")
@click.option("--split", type=click.Choice(["train", "test"]), default=None, help="Only these images (default: all).")
@click.option(
    "--field",
    type=click.Choice(["true", "explorer"]),
    default="true",
    help="The white box: the receptive field, or as the authors' explorer draws it, at even distances.",
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of the page.  [default: reports/]"
)
@click.pass_obj
def units(
    project: Path,
    layer: str | None,
    top: int,
    asked: tuple[str, ...],
    channels: int,
    shown: int,
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
    layout = current_layout(project)
    made = Made.read(project, layout.artifacts)
    layer = layer or ("pool5" if "pool5" in made.features.dims else _svm_layer(project))
    dataset = load_dataset(project / "artifacts" / "manifest" / "manifest.json")
    ids = [image.id for image in (dataset.split(split) if split else dataset.images)]
    view = made.features.layer(layer, ids, read_ahead=2)
    cells = _cells(made, layer)
    wanted = [_unit(text, cells, layer, made.features.dims[layer]) for text in asked]
    folder, log = out or layout.reports, Reporter("units")
    outputs, name = OutputFolder(folder, "give another folder by --out"), f"units-{layer}.html"
    outputs.check([name], protected=untouchable(project))
    outputs.prepare()
    store = open_store(project)
    workers = open_params(project).execution.workers or default_workers()
    key, found = _found(store, made.artifact, view, (layer, top), dataset.name, workers, log)
    if cells is not None and field == "explorer":
        cells = evenly_spaced(cells, made.network, layer)
    picked = chosen(found, cells, channels, wanted)
    source = ImageSource.registered(registered_folder(project, open_params(project).dataset))
    drawn = CropReader(made.crop, dataset, source, view, log)
    outputs.write(name, _page(found, cells, picked, shown, made, drawn, layer).encode())
    path = store.describe("units", key)["path"]
    silent = len(found.silent)
    click.echo(f"{layer}: {len(found.counts)} units, {silent} silent, in {len(view)} images; object {path}")
    click.echo(f"page of {counted(len(picked), 'unit')}: {folder / name}")


class Made(NamedTuple):
    """The features and what made them: their list, the network, how regions became its input."""

    artifact: Artifact
    features: FeatureSet
    network: Network
    crop: CropForm

    @classmethod
    def read(cls, project: Path, artifacts: Path) -> "Made":
        """Read it; StageError where the weights are others than those that the features were made with."""
        path = artifacts / "features" / "manifest.json"
        artifact, weights = Artifact.read(path), artifacts / "finetune" / "weights.safetensors"
        if not weights.exists() or artifact.inputs.get("weights") != digest_file(weights):
            raise StageError(f"{weights}: not the one that {path} was made with; run `dvc repro features`")
        network = load_weights(weights)
        grid = NetworkSettings(**artifact.params["network"]).pool5_grid
        network.pool5_grid = network.pool5_grid if grid is None else grid
        features = FeaturesSettings(**artifact.params["features"])
        whole = features.method == "spp"  # pooled from the image's map: no crop, no context
        context_px = 0 if whole else features.context_px
        crop = CropForm("warp" if whole else features.crop, context_px, network.input.side_px, features.padding)
        return cls(artifact, FeatureSet(open_store(project), artifact), network.eval(), crop)


@dataclass(frozen=True)
class CropReader:
    """Makes crops of regions by the number of their image in a view and their row."""

    crop: CropForm
    dataset: Dataset
    source: ImageSource
    view: LayerView
    log: Reporter

    def __call__(self, wanted: Mapping[int, Sequence[int]]) -> dict[tuple[int, int], NDArray[np.uint8]]:
        """Read each image once."""
        found: dict[tuple[int, int], NDArray[np.uint8]] = {}
        records = {image.id: image for image in self.dataset.images}
        for done, (number, rows) in enumerate(wanted.items(), 1):
            pixels = self.source.read(records[self.view.image_ids[number]])
            crops = self.crop.small(pixels, self.view[number].boxes[np.array(rows)])
            found |= {(number, row): crop for row, crop in zip(rows, crops, strict=True)}
            self.log.progress(done, len(wanted), "images", f"{len(found)} crops")
        return found


def _svm_layer(project: Path) -> str:
    return open_params(project).groups.of("svm", SvmSettings).layer


def _cells(made: Made, layer: str) -> Cells | None:
    """The layer's cells; none of pooled regions, whose bins are not cells of the input."""
    if made.artifact.params["features"]["method"] == "spp":
        return None
    return cells_of(made.network, layer, made.features.dims[layer])


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


def _found(
    store: Store,
    artifact: Artifact,
    view: LayerView,
    asked: tuple[str, int],
    dataset: str,
    workers: int,
    log: Reporter,
) -> tuple[str, TopUnits]:
    """Take the result from the store, or compute it and put it there; its key, and it."""
    layer, top = asked
    recipe = recipe_of({image: artifact.keys[image] for image in view.image_ids}, layer, top)
    if store.missing(recipe.stage, [recipe.key]):
        found = collected(view, top, workers, lambda done, of: log.progress(done, of, "images"))
        store.put(recipe, payload_of(found, layer, view.image_ids))
        store.register(listed(recipe.key, dataset))
        return recipe.key, found
    log.info("taken from the store: the same features were looked at before")
    return recipe.key, read_units(store, recipe.key)


def _page(
    found: TopUnits,
    cells: Cells | None,
    picked: Sequence[ShownUnit],
    shown: int,
    made: Made,
    drawn: CropReader,
    layer: str,
) -> str:
    where = (
        "The layer has no cells, so no field is drawn."
        if cells is None
        else f"{cells.channels} channels of {cells.rows} x {cells.columns} cells; white: what the cell sees."
    )
    records = {image.id: image.file_name for image in drawn.dataset.images}
    return page(
        found,
        cells,
        picked,
        per_unit=shown,
        side_px=made.network.input.side_px,
        crops=drawn,
        names=[records[image] for image in drawn.view.image_ids],
        title=f"Units of {layer}",
        lead=f"{made.network.name} on {len(drawn.view)} images of {drawn.dataset.name}: the regions that each unit "
        f"responds to most, of those that overlap by more than 0.1 in an image the strongest. {where} Numbers: "
        "activation over the channel's largest. Arrow keys: channel (up, down) and cell (left, right).",
    )
