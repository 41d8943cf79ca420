"""Layers as the settings name them: what is computed for them, and the part of it that is the feature."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..common.errors import StageError

if TYPE_CHECKING:
    from ..common.networks import Network


def computed_layers(network: "Network", layers: Sequence[str], *, full: bool) -> list[str]:
    """The network's layers behind the named ones, sorted; StageError for one that does not fit network or view."""
    for layer in layers:
        base, _, level = layer.partition("/")
        if level and (base != "pool5" or int(level) not in (network.pyramid or ())):
            levels = "no pyramid" if network.pyramid is None else f"a pyramid of {list(network.pyramid)}"
            raise StageError(f"classify_svm.layers: there is no level {layer!r}; the network has {levels}")
        if full and base != "pool5":
            try:
                network.fc_graph([base])
            except StageError as error:
                raise StageError(
                    f"classify_svm.layers: {error}, so its length would be another for each full picture; leave it "
                    "out or set classify_svm.view to crop"
                ) from error
    return sorted({layer.partition("/")[0] for layer in layers})


def level_columns(layer: str, pyramid: Sequence[int] | None, length: int) -> slice:
    """The columns of a computed layer of ``length`` that are the named one: all, or one level of the pyramid."""
    level = layer.partition("/")[2]
    if not level or pyramid is None:
        return slice(0, length)
    channels = length // sum(n * n for n in pyramid)
    before = sum(n * n for n in pyramid[: list(pyramid).index(int(level))])
    return slice(channels * before, channels * (before + int(level) ** 2))


def normalised(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows [n, d] of length 1; one of zeros stays."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    norms[norms == 0] = 1
    unit: NDArray[np.float32] = features / norms
    return unit
