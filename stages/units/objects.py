"""The strongest activations of a layer as an object of the store, computed from cached features in one pass."""

from collections.abc import Callable

import numpy as np

from cache import Artifact, Payload, Recipe, Store, digest_json
from stages.features.featureset import LayerView

from .top import IOU, Collector, TopUnits

STAGE, VERSION = "units", 1
_ARRAYS = ("values", "images", "rows", "counts")


def recipe_of(keys: dict[int, str], layer: str, top: int) -> Recipe:
    """Name the result: it depends on the features of these images (keys by id), in this order."""
    inputs = {"features": digest_json([[image_id, key] for image_id, key in keys.items()])}
    return Recipe(STAGE, VERSION, {"layer": layer, "top": top, "iou": IOU}, inputs)


def collected(view: LayerView, top: int, workers: int, told: Callable[[int, int], None]) -> TopUnits:
    """Read the view once and collect; ``told`` hears how many of how many images are through."""
    dtype, units = view.dtype_and_length()
    with Collector(units, top, dtype, workers) as collector:
        for number, image in enumerate(view):
            collector.add(number, image.features, image.boxes)
            told(number + 1, len(view))
        return collector.result()


def payload_of(found: TopUnits, layer: str, image_ids: tuple[int, ...]) -> Payload:
    """Make the object: :class:`TopUnits`' arrays and ``image_ids`` int64, which ``images`` indexes."""
    arrays = {name: getattr(found, name) for name in _ARRAYS} | {"image_ids": np.array(image_ids, np.int64)}
    units, top = found.values.shape
    attrs = {"layer": layer, "units": units, "top": top, "iou": IOU, "count": int(found.counts.sum())}
    return Payload(arrays, attrs, "hdf5")


def read_units(store: Store, key: str) -> TopUnits:
    """Read the object."""
    arrays = store.get(STAGE, key, _ARRAYS).arrays
    return TopUnits(**{name: arrays[name] for name in _ARRAYS})


def listed(key: str, dataset: str) -> Artifact:
    """Make the list of the one object, by which `rcnn cache gc` keeps it."""
    return Artifact(STAGE, VERSION, {}, {}, ((0, key),), {"dataset": dataset})
