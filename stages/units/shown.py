"""What the page of units is made from: the features and their network, the strongest regions, their crops."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cache import Artifact, Store, digest_file
from cache.errors import StageError
from manifests import Dataset
from stages.contract import Log, ReadImage
from stages.features.featureset import FeatureSet, LayerView
from stages.features.settings import FeaturesSettings
from stages.networks.network import Network
from stages.networks.settings import NetworkSettings
from stages.networks.weights import load_weights

from .cells import Cells, cells_of
from .objects import collected, listed, payload_of, read_units, recipe_of
from .page import CropForm, ShownUnit, page
from .settings import UnitsSettings
from .top import TopUnits


class Made(NamedTuple):
    """The features and what made them: their list, the network, how regions became its input."""

    artifact: Artifact
    features: FeatureSet
    network: Network
    crop: CropForm

    @classmethod
    def read(cls, store: Store, path: Path, weights: Path) -> "Made":
        """Read the list of features and the network.

        Args:
            path: the list's.
            weights: the network's; StageError where the features were made with others.
        """
        artifact = Artifact.read(path)
        if not weights.exists() or artifact.inputs.get("weights") != digest_file(weights):
            raise StageError(f"{weights}: not the one that {path} was made with; run `dvc repro features`")
        network = load_weights(weights, pool5_grid=NetworkSettings(**artifact.params["network"]).pool5_grid)
        features = FeaturesSettings(**artifact.params["features"])
        whole = features.method == "spp"  # pooled from the image's map: no crop, no context
        context_px = 0 if whole else features.context_px
        crop = CropForm("warp" if whole else features.crop, context_px, network.input, features.padding)
        return cls(artifact, FeatureSet(store, artifact), network.eval(), crop)

    def layer(self, given: str | None, scored: str) -> str:
        """Choose the layer: that ``given``, else pool5 where it is stored, else the one that is ``scored``."""
        return given or ("pool5" if "pool5" in self.features.dims else scored)

    def cells(self, layer: str) -> Cells | None:
        """Return the layer's cells; none of pooled regions, whose bins are not cells of the input."""
        if self.artifact.params["features"]["method"] == "spp":
            return None
        return cells_of(self.network, layer, self.features.dims[layer])


@dataclass(frozen=True)
class CropReader:
    """Makes crops of regions by the number of their image in a view and their row."""

    crop: CropForm
    dataset: Dataset
    read: ReadImage
    view: LayerView
    log: Log

    def __call__(self, wanted: Mapping[int, Sequence[int]]) -> dict[tuple[int, int], NDArray[np.uint8]]:
        """Read each image once."""
        found: dict[tuple[int, int], NDArray[np.uint8]] = {}
        records = {image.id: image for image in self.dataset.images}
        for done, (number, rows) in enumerate(wanted.items(), 1):
            pixels = self.read(records[self.view.image_ids[number]])
            crops = self.crop.small(pixels, self.view[number].boxes[np.array(rows)])
            found |= {(number, row): crop for row, crop in zip(rows, crops, strict=True)}
            self.log.progress(done, len(wanted), "images", f"{len(found)} crops")
        return found


def strongest(
    store: Store, artifact: Artifact, view: LayerView, settings: UnitsSettings, dataset: str, workers: int, log: Log
) -> tuple[str, TopUnits]:
    """Take the strongest of each unit from the store, or find them and put them there; their key, and they.

    Args:
        artifact: the list of features, of which ``view`` is a layer.
        settings: how many, and how lists are filled.
        dataset: its name.
    """
    top, early = settings.top, settings.early_floor
    recipe = recipe_of({image: artifact.keys[image] for image in view.image_ids}, view.layer, top, early_floor=early)
    if store.missing(recipe.stage, [recipe.key]):
        found = collected(view, top, workers, lambda done, of: log.progress(done, of, "images"), early_floor=early)
        store.put(recipe, payload_of(found, view.layer, view.image_ids, early_floor=early))
        store.register(listed(recipe.key, dataset))
        return recipe.key, found
    log.info("taken from the store: the same features were looked at before")
    return recipe.key, read_units(store, recipe.key)


def told(found: TopUnits, layer: str, images: int) -> str:
    """Say in a line what was found in so many images."""
    return f"{layer}: {len(found.counts)} units, {len(found.silent)} silent, in {images} images"


def drawn_page(
    found: TopUnits, cells: Cells | None, picked: Sequence[ShownUnit], per_unit: int, made: Made, drawn: CropReader
) -> str:
    """Return the page of the units ``picked``, with ``per_unit`` crops of each, that ``drawn`` makes."""
    where = (
        "The layer has no cells, so no field is drawn."
        if cells is None
        else f"{cells.channels} channels of {cells.rows} x {cells.columns} cells; white: what the cell sees."
    )
    keys = "unit (up, down)" if cells is None else "channel (up, down) and cell (left, right)"
    records = {image.id: image.file_name for image in drawn.dataset.images}
    return page(
        found,
        cells,
        picked,
        per_unit=per_unit,
        side_px=made.network.input.side_px,
        crops=drawn,
        names=[records[image] for image in drawn.view.image_ids],
        title=f"Units of {drawn.view.layer}",
        lead=f"Network {made.network.name} on {len(drawn.view)} images of {drawn.dataset.name}: the regions that each "
        f"unit responds to most, of those that overlap by more than 0.1 in an image the strongest. {where} Numbers: "
        f"activation over the channel's largest. Arrow keys: {keys}.",
    )
