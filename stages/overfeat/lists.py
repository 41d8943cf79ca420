"""The list of an image's maps, as trainings read it: refused where they are of other weights, or of other images.

DVC runs stages in an order in which that cannot be; a stage run by itself, after a change, would otherwise learn from
what does not belong together, and keep it under the key of what does.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import Artifact, Store
from cache.errors import StageError
from manifests import ImageRecord
from stages.dense.maps import array_of, described
from stages.finetune.batches import MapName
from stages.lists import of_dataset
from stages.networks.network import Network

_CHOSEN = ("scales_px", "storage", "arithmetic")  # the maps' own parameters; all else follows from the network


def maps_of(found: Artifact, network: Network, manifest: Path, shown: str, *, mirrored: bool = False) -> Artifact:
    """Return a list of stored maps as it is; ``StageError`` where they are of another network, or of another dataset.

    Args:
        mirrored: whether maps of mirror images are needed as well; ``StageError`` where there are none.
        network: the one whose maps they must be.
        manifest: the dataset manifest.
        shown: the list's path, for the message.
    """
    scales, storage, arithmetic = (found.summary.get(name) for name in _CHOSEN)
    wanted = described(network, scales or (), str(storage), str(arithmetic))
    other = [name for name, value in wanted.items() if found.summary.get(name) != value]
    if other:
        raise StageError(
            f"{shown}: maps of another {' and '.join(other)} than the weights'; run `dvc repro`, which makes them anew"
        )
    if mirrored and not found.summary.get("mirrored"):
        raise StageError(f"{shown}: has no maps of mirror images; run `dvc repro`, which makes them anew")
    return of_dataset(found, manifest, shown)


def map_keys(listed: Artifact, records: Sequence[ImageRecord]) -> list[str]:
    """Return the key of each image's maps; ``StageError`` naming an image that the list lacks."""
    lacking = [record.file_name for record in records if record.id not in listed.keys]
    if lacking:
        raise StageError(f"{lacking[0]}: has no stored maps; run the stage maps again")
    return [listed.keys[record.id] for record in records]


def map_reader(
    store: Store, listed: Artifact, records: Sequence[ImageRecord]
) -> Callable[[MapName], NDArray[np.floating]]:
    """Return what reads a map [y, x, c] by the image's index, the scale and whether it is the mirror image's."""
    keys = map_keys(listed, records)

    def read(name: MapName) -> NDArray[Any]:
        image, scale_px, mirrored = name
        array = array_of(scale_px, mirrored=mirrored)
        found: NDArray[Any] = store.get(listed.stage, keys[image], [array]).arrays[array]
        return found

    return read
