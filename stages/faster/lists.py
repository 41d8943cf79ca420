"""Lists of other stages' objects, as a stage reads them: refused where they are of other images or another network.

DVC runs stages in an order in which that cannot be; a stage run by itself, after a change, would otherwise learn from
what does not belong together, and keep it under the key of what does.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cache import Artifact
from cache.errors import StageError
from stages.lists import of_dataset

from .maps import described
from .network import RegionNetwork
from .settings import ImageSettings, MapsSettings


def maps_of(found: Artifact, made_of: Mapping[str, Any], manifest: Path, shown: str) -> Artifact:
    """Return a list of stored maps as it is; StageError where they were made of something else, or another dataset.

    Args:
        made_of: what the maps must be of (:func:`~stages.faster.maps.described`), or those parts that matter.
        manifest: the dataset manifest.
        shown: the list's path, for the message.
    """
    other = [name for name, value in made_of.items() if found.summary.get(name) != value]
    if other:
        raise StageError(
            f"{shown}: maps of another {' and '.join(other)} than this step's; run `dvc repro`, which makes them anew"
        )
    return of_dataset(found, manifest, shown)


def trained_on(network: RegionNetwork, scale: ImageSettings) -> dict[str, Any]:
    """Return what stored maps must be of to train on them: a training names the maps in its key, and so the rest."""
    made_of = described(network, MapsSettings(short_px=scale.short_px, long_px=scale.long_px))
    return {name: value for name, value in made_of.items() if name not in {"storage", "arithmetic"}}
