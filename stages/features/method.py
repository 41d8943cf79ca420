"""The two ways to make features, ``features.method``: what computes them, and all that their bits depend on."""

from collections.abc import Sequence
from typing import Any

from stages.networks.forward import device_of
from stages.networks.network import Network
from stages.networks.settings import NetworkSettings
from stages.networks.weights import weights_digest

from .crops import Crop, Extractor, extractor
from .settings import FeaturesSettings
from .spp.extraction import Spp, SppExtractor
from .spp.split import split

# Part of an object's key. Where one method gives another result, its number rises, and the stage's, which DVC watches.
OBJECT_VERSIONS = {"warp": 1, "spp": 2}


def extractor_of(
    network: Network,
    layers: Sequence[str],
    settings: FeaturesSettings,
    network_settings: NetworkSettings,
    device: str = "auto",
) -> Extractor | SppExtractor:
    """What computes an image's features: called with pixels and boxes. ``device`` is ``execution.device``.

    Raises ``StageError`` for layers that the network, or the method with it, does not have.
    """
    if settings.method == "warp":
        return extractor(
            network, layers, Crop(settings.crop, settings.context_px, settings.padding), network_settings, device
        )
    spp = Spp(**dict(settings.spp))
    return SppExtractor(network, layers, spp, dtype=network_settings.dtype, device=device_of(device))


def lengths(network: Network, layers: Sequence[str], settings: FeaturesSettings) -> dict[str, int]:
    """Length of each layer's feature; ``StageError`` as :func:`extractor_of`."""
    if settings.method == "warp":
        return {layer: network.feature_dim(layer) for layer in layers}
    spp = settings.spp
    dims = split(network, layers, spp.levels, min(spp.scales_px), spp.pooling).dims
    return {layer: dims[layer] for layer in layers}


def features_made_of(
    settings: FeaturesSettings, network_settings: NetworkSettings, network: Network, layers: list[str]
) -> dict[str, Any]:
    """Everything but the image that a feature's bits depend on: part of the key, and kept as attributes."""
    common = {
        "layers": layers,
        "network": network.name,
        "weights_digest": weights_digest(network, layers),
        "arithmetic": network_settings.dtype,
        "storage": settings.storage,
    }
    if settings.method == "spp":
        return {**common, **_of_spp(settings, network)}
    crop: dict[str, Any] = {
        "pool5_grid": network.pool5_grid if "pool5" in layers else None,
        "input": network.input.as_json(),
        "crop": settings.crop,
        "context_px": settings.context_px,
        "batch": network_settings.batch,
    }
    if settings.padding != "mean":  # objects were named before it could be another
        crop["padding"] = settings.padding
    return {**common, **crop} | ({} if network.pyramid is None else {"pyramid": list(network.pyramid)})


def _of_spp(settings: FeaturesSettings, network: Network) -> dict[str, Any]:
    """Neither the input's side nor the number of regions in a batch changes what is pooled from a whole image.

    Maxima are not named, so that features from before there were averages keep their keys.
    """
    scales = sorted(settings.spp.scales_px)
    return {
        "method": "spp",
        "input": {name: value for name, value in network.input.as_json().items() if name != "side_px"},
        "scales_px": scales,
        "levels": list(settings.spp.levels),
        **({} if settings.spp.pooling == "max" else {"pooling": settings.spp.pooling}),
        "target_side_px": settings.spp.target_side_px if len(scales) > 1 else None,
    }
