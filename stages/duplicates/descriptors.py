"""Descriptors of images as objects of the store: one per picture, whatever dataset it is in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache import Artifact, Payload, Recipe, Store
from manifests import Dataset, ImageRecord
from stages.contract import Compute, ImageTask, ReadImage, image_attrs

from .gist import SIDE_PX, GistForm, gist, warped

STAGE, VERSION = "gist", 1
_FORM = GistForm()


def gist_tasks(records: Sequence[ImageRecord]) -> list[ImageTask]:
    """Name the descriptor of each image: it depends on the picture's bytes alone."""
    params = {"side_px": SIDE_PX, "blocks": _FORM.blocks, "orientations": list(_FORM.orientations)}
    return [
        ImageTask(record, Recipe(STAGE, VERSION, params, {"image": record.sha256}), args={"form": _FORM})
        for record in records
    ]


@dataclass(frozen=True)
class GistCompute(Compute):
    """Computes one image's descriptor."""

    read_image: ReadImage

    def __call__(self, task: ImageTask) -> Payload:
        """Compute the object: ``gist`` float32 [960]."""
        found = gist(warped(self.read_image(task.image)), task.args["form"]).astype(np.float32)
        return Payload({"gist": found}, image_attrs(task.image, 1), "hdf5")


def listed(dataset: Dataset, keys: Sequence[str]) -> Artifact:
    """Make the list of a dataset's descriptors, by which `rcnn cache gc` keeps them."""
    entries = tuple((record.id, key) for record, key in zip(dataset.images, keys, strict=True))
    return Artifact(STAGE, VERSION, {}, {}, entries, {"dataset": dataset.name})


def read_descriptors(
    store: Store, keys: Sequence[str], told: Callable[[int, int], None] = lambda done, total: None
) -> NDArray[np.float32]:
    """Read descriptors: float32 [n, 960], in the keys' order. ``told`` hears how many of how many are read."""
    found = np.empty((len(keys), _FORM.length), np.float32)
    for number, (row, key) in enumerate(zip(found, keys, strict=True), 1):
        row[:] = store.get(STAGE, key, ["gist"]).arrays["gist"]
        told(number, len(keys))
    return found
