"""The shared feature map of a whole image: computed, described for keys, rounded as the store rounds it.

Whoever needs a map that is not stored computes it here and rounds it alike, so that a stage that reads maps, one that
does not and a detector of new images see the same bits.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cache import Payload, Recipe
from cache.errors import StageError
from manifests import ImageRecord
from stages.contract import Compute, ImageTask, ReadImage, image_attrs
from stages.fast.images import ScaledSize, network_image, scaled_size
from stages.networks.forward import DTYPES, deterministic, device_of
from stages.networks.stored_map import stored_map
from stages.stopwatch import part

from .network import RegionNetwork
from .settings import MapsSettings

STAGE, VERSION = "maps", 1  # of the objects: raise the version when the same inputs give other maps
AS_IT_IS, MIRRORED = "map", "mirrored"  # an object's arrays


def described(network: RegionNetwork, settings: MapsSettings, dtype: str = "float32") -> dict[str, Any]:
    """Everything but the image that a map's bits depend on: of the network only what comes before the map.

    ``dtype`` is the arithmetic's (``network.dtype``).
    """
    own = network.network
    return {
        "network": own.name,
        "layer": network.layer,
        "weights_digest": network.trunk_digest,
        "input": {name: value for name, value in own.input.as_json().items() if name != "side_px"},
        "arithmetic": dtype,
        "short_px": settings.short_px,
        "long_px": settings.long_px,
        "storage": settings.storage,
    }


def map_task(record: ImageRecord, made_of: Mapping[str, Any], *, mirrored: bool) -> ImageTask:
    """The task of one image's map; ``mirrored``: that of its mirror image, too."""
    recipe = Recipe(STAGE, VERSION, made_of, {"image": record.sha256, "mirrored": mirrored})
    return ImageTask(record, recipe, args={"mirrored": mirrored})


class MapPass:
    """Computes shared maps on a device, as :func:`~stages.networks.forward.deterministic` says. Copies the network.

    Safe to call from several threads at once.
    """

    def __init__(self, network: RegionNetwork, settings: MapsSettings, device: str, dtype: str = "float32") -> None:
        self.device, self._dtype = torch.device(device_of(device)), DTYPES[dtype]
        self._settings, self._spec, self._node = settings, network.network.input, network.node
        own = copy.deepcopy(network.network).eval().requires_grad_(False)
        graph = own.graph([network.layer])
        form = torch.channels_last
        self._trunk = graph.to(self.device, self._dtype, memory_format=form)  # type: ignore[call-overload]

    def size_of(self, width: int, height: int) -> ScaledSize:
        """The size at which an image of this width and height goes through the network."""
        return scaled_size(width, height, self._settings.short_px, self._settings.long_px)

    def __call__(self, pixels: NDArray[np.uint8], image: str, at: ScaledSize | None = None) -> Tensor:
        """The map of uint8 [H, W, 3] RGB, rounded to ``maps.storage``: [1, y, x, c] on the device.

        ``at``: the size to which the image is scaled; None: that of ``maps``. StageError naming the image where the
        map has no cell, is not a number or does not fit the storage.
        """
        height, width = pixels.shape[:2]
        size = self.size_of(width, height) if at is None else at
        scaled = network_image(pixels, self._spec, size)
        with torch.inference_mode(), deterministic(self.device):
            ready = torch.from_numpy(scaled).to(self.device, self._dtype)
            with part("conv", self.device):
                fmap = self._run(ready, image)
        return stored_map(fmap, self._settings.storage, image)

    def _run(self, scaled: Tensor, image: str) -> Tensor:
        try:
            fmap: Tensor = self._trunk(scaled)[self._node]
        except RuntimeError as error:
            height, width = scaled.shape[2:]
            raise StageError(
                f"{image}: no feature map is left of it at {width} x {height} px ({str(error).splitlines()[0]}); use "
                "larger maps.short_px and maps.long_px, or leave the image out"
            ) from None
        return fmap.permute(0, 2, 3, 1)


def as_input(fmap: Tensor | NDArray[Any]) -> Tensor:
    """A map [1, y, x, c] or [y, x, c] of any precision as the heads take it: float32 [1, c, y, x], channels last."""
    tensor = torch.from_numpy(np.ascontiguousarray(fmap)) if isinstance(fmap, np.ndarray) else fmap
    batch = tensor if tensor.ndim == 4 else tensor[None]
    return batch.float().permute(0, 3, 1, 2)


@dataclass(frozen=True)
class SharedMapsCompute(Compute):
    """One image's shared map, [y, x, c], and its mirror image's where the task says so."""

    on_device = True
    read_image: ReadImage
    network: RegionNetwork
    settings: MapsSettings
    device: str
    made_of: Mapping[str, Any]

    @cached_property
    def map_pass(self) -> MapPass:
        """Return the trunk on the device of this process."""
        return MapPass(self.network, self.settings, self.device, self.made_of["arithmetic"])

    def prepare(self) -> None:
        """Move the network to the device."""
        _ = self.map_pass

    def __call__(self, task: ImageTask) -> Payload:
        """The image's maps."""
        record = task.image
        pixels = self.read_image(record)
        sides = {AS_IT_IS: pixels} | (
            {MIRRORED: np.ascontiguousarray(pixels[:, ::-1])} if task.args["mirrored"] else {}
        )
        maps = {name: self.map_pass(side, record.file_name)[0].cpu().numpy() for name, side in sides.items()}
        size = self.map_pass.size_of(record.width, record.height)
        attrs = {
            **self.made_of,
            **image_attrs(record, len(maps)),
            "order": "row, column, channel",
            "scaled_px": [size.width, size.height],
        }
        return Payload(maps, attrs, "zarr")
