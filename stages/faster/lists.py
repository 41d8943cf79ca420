"""Lists of other stages' objects, as a stage reads them: refused where they are of other images or another network.

DVC runs stages in an order in which that cannot be; a stage run by itself, after a change, would otherwise learn from
what does not belong together, and keep it under the key of what does.
"""

from pathlib import Path

from cache import Artifact, digest_file
from cache.errors import StageError

from .maps import described
from .network import RegionNetwork
from .settings import ImageSettings, MapsSettings


def of_dataset(found: Artifact, manifest: Path, shown: str) -> Artifact:
    """Return a list as it is; StageError, naming it as ``shown``, where another dataset manifest than this made it."""
    if found.inputs.get("manifest") != digest_file(manifest):
        raise StageError(f"{shown}: made of another dataset or of other images; run `dvc repro`, which makes it anew")
    return found


def maps_of(
    found: Artifact, network: RegionNetwork, scale: ImageSettings | MapsSettings, manifest: Path, shown: str
) -> Artifact:
    """Return a list of stored maps as it is; StageError where they are of another network, layer, scale or dataset.

    Or of another storage, where ``scale`` says of which: a training names the maps themselves in its key.
    """
    storage = scale.storage if isinstance(scale, MapsSettings) else found.summary.get("storage", "float16")
    wanted = described(network, MapsSettings(short_px=scale.short_px, long_px=scale.long_px, storage=storage))
    other = [name for name, value in wanted.items() if found.summary.get(name) != value]
    if other:
        raise StageError(
            f"{shown}: maps of another {' and '.join(other)} than this step's; run `dvc repro`, which makes them anew"
        )
    return of_dataset(found, manifest, shown)
