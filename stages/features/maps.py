"""conv5 of the train split's images, kept in the store: what fine-tuning pools its windows from (SPP section 4.2).

The authors keep the maps, too, and not what is pooled from them: those of one image are a few MB, its 2,000 pooled
vectors a hundred, and neither the proposals nor the annotations are part of a map's key. Stored at the precision of
the features, so that a window pooled from a stored map is, to the bit, the ``pool5`` that the stage features stores
(rounding keeps the order of numbers, so that it goes before or after a maximum).
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cache import Payload, Recipe
from cache.errors import StageError
from manifests import ImageRecord
from stages.boxes.geometry import BOX_CONVENTION
from stages.contract import Compute, ImageTask, ReadImage, image_attrs
from stages.networks.forward import DTYPES, deterministic, device_of
from stages.networks.network import Network
from stages.networks.weights import weights_digest

from .spp.conv_pass import ConvPass

STAGE = "finetune"  # the stage that makes them, and their namespace in the store
VERSION = 1  # part of their keys: raise it when the same inputs give other maps


def map_name(scale_px: int, mirrored: bool) -> str:
    """The name of one map's array in an image's object."""
    return f"{'mirrored' if mirrored else 'conv5'}_{scale_px}"


def maps_made_of(network: Network, scales_px: Sequence[int], arithmetic: str, storage: str) -> dict[str, Any]:
    """Everything but the image that the maps' bits depend on: of the network only what comes before conv5."""
    return {
        "network": network.name,
        "weights_digest": weights_digest(network, [network.conv5]),
        "input": {name: value for name, value in network.input.as_json().items() if name != "side_px"},
        "scales_px": sorted(scales_px),
        "arithmetic": arithmetic,
        "storage": storage,
    }


def map_task(record: ImageRecord, made_of: Mapping[str, Any], *, mirrored: bool) -> ImageTask:
    """The task of one image's maps; ``mirrored``: those of its mirror image, too."""
    recipe = Recipe(STAGE, VERSION, made_of, {"image": record.sha256, "mirrored": mirrored})
    return ImageTask(record, recipe, args={"mirrored": mirrored})


@dataclass(frozen=True)
class MapsCompute(Compute):
    """conv5 of one image at every scale, [y, x, c] each. ``made_of`` is :func:`maps_made_of`'s."""

    on_device = True
    read_image: ReadImage
    network: Network
    device: str
    made_of: Mapping[str, Any]

    @cached_property
    def conv_pass(self) -> ConvPass:
        """The convolutional layers, on the device of this process."""
        device, dtype = torch.device(device_of(self.device)), DTYPES[self.made_of["arithmetic"]]
        own = copy.deepcopy(self.network).eval().requires_grad_(False)
        conv = own.graph([own.conv5]).to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return ConvPass(conv, own.conv5, own.input, device, dtype)

    def prepare(self) -> None:
        """Move the network to the device."""
        _ = self.conv_pass

    def __call__(self, task: ImageTask) -> Payload:
        """The image's maps, and those of its mirror image where the task says so."""
        record = task.image
        image = self.read_image(record)
        sides = {False: image} | ({True: np.ascontiguousarray(image[:, ::-1])} if task.args["mirrored"] else {})
        with torch.inference_mode(), deterministic(self.conv_pass.device):
            maps = {
                map_name(scale, mirrored): self._map(record, pixels, scale)
                for mirrored, pixels in sides.items()
                for scale in self.made_of["scales_px"]
            }
        attrs = {
            **self.made_of,
            **image_attrs(record, len(maps)),
            "box_convention": BOX_CONVENTION,
            "order": "row, column, channel; after the ReLU",
        }
        return Payload(maps, attrs, "zarr")

    def _map(self, record: ImageRecord, pixels: NDArray[np.uint8], scale_px: int) -> NDArray[Any]:
        try:
            computed = self.conv_pass(pixels, scale_px).cpu().numpy()
        except StageError as error:
            raise StageError(f"{record.file_name}: {error}") from error
        with np.errstate(over="ignore"):
            stored: NDArray[Any] = computed.astype(self.made_of["storage"])
        if not np.isfinite(stored).all():
            raise StageError(
                f"{record.file_name}: conv5 at {scale_px} px reaches {float(computed.max()):g}, which does not fit "
                "float16 (largest 65504); set features.storage to float32"
            )
        return stored
