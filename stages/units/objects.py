"""The strongest activations of a layer as an object of the store, computed from cached features in one pass."""

from collections.abc import Callable
from typing import Any

import numpy as np

from cache import Artifact, Payload, Recipe, Store, digest_json
from stages.features.featureset import LayerView

from .top import IOU, Collector, TopUnits

STAGE, VERSION = "units", 1
_ARRAYS = ("values", "images", "rows", "counts")


def recipe_of(keys: dict[int, str], layer: str, top: int, *, early_floor: bool = False) -> Recipe:
    """Name the result: it depends on the features of these images (keys by id), in this order."""
    inputs = {"features": digest_json([[image_id, key] for image_id, key in keys.items()])}
    return Recipe(STAGE, VERSION, {"layer": layer, "top": top, "iou": IOU, **_early(early_floor)}, inputs)


def _early(early_floor: bool) -> dict[str, bool]:
    """Say how lists are filled, where it is not the exact way."""
    return {"early_floor": True} if early_floor else {}


def collected(
    view: LayerView, top: int, workers: int, told: Callable[[int, int], None], *, early_floor: bool = False
) -> TopUnits:
    """Read the view once and collect; ``told`` hears how many of how many images are through."""
    dtype, units = view.dtype_and_length()
    with Collector(units, top, dtype, workers, early_floor=early_floor) as collector:
        for number, image in enumerate(view):
            collector.add(number, image.features, image.boxes)
            told(number + 1, len(view))
        return collector.result()


def payload_of(found: TopUnits, layer: str, image_ids: tuple[int, ...], *, early_floor: bool = False) -> Payload:
    """Make the object: :class:`TopUnits`' arrays and ``image_ids`` int64, which ``images`` indexes."""
    arrays = {name: getattr(found, name) for name in _ARRAYS} | {"image_ids": np.array(image_ids, np.int64)}
    units, top = found.values.shape
    attrs: dict[str, Any] = {"layer": layer, "units": units, "top": top, "iou": IOU, "count": int(found.counts.sum())}
    attrs |= _early(early_floor)
    return Payload(arrays, attrs, "hdf5")


def read_units(store: Store, key: str) -> TopUnits:
    """Read the object."""
    arrays = store.get(STAGE, key, _ARRAYS).arrays
    return TopUnits(**{name: arrays[name] for name in _ARRAYS})


def listed(key: str, dataset: str) -> Artifact:
    """Make the list of the one object, by which `rcnn cache gc` keeps it."""
    return Artifact(STAGE, VERSION, {}, {}, ((0, key),), {"dataset": dataset})
