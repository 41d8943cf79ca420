"""An image's feature maps at several scales: computed, described for keys, rounded as the store rounds them.

Whoever needs a map that is not stored computes it here and rounds it alike, so that a stage that reads maps and a
detector of new images see the same bits.
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
from stages.boxes.geometry import Boxes
from stages.contract import Compute, ImageTask, ReadImage, image_attrs
from stages.networks.forward import DTYPES, deterministic, device_of
from stages.networks.network import Network
from stages.networks.pixels import scaled_image
from stages.networks.stored_map import stored_map
from stages.networks.weights import weights_digest
from stages.stopwatch import part

from .scales import scaled_px
from .windows import DenseWindows, windows_of

STAGE, VERSION = "dense_maps", 1  # of the objects: raise the version when the same inputs give other maps


def array_of(scale_px: int, *, mirrored: bool = False) -> str:
    """Name an object's array: of the image at a scale, or of its mirror image."""
    return f"{'mirrored' if mirrored else 'conv5'}_{scale_px}"


def described(network: Network, scales_px: Sequence[int], storage: str, dtype: str = "float32") -> dict[str, Any]:
    """Everything but the image that its maps' bits depend on: of the network only what comes before them.

    ``dtype`` is the arithmetic's (``network.dtype``).
    """
    return {
        "network": network.name,
        "layer": network.conv5,
        "weights_digest": weights_digest(network, [network.conv5]),
        "input": network.input.as_json(),  # with side_px: the sizes at which windows come out even follow from it
        "arithmetic": dtype,
        "scales_px": list(scales_px),
        "storage": storage,
    }


def map_task(record: ImageRecord, made_of: Mapping[str, Any], *, mirrored: bool) -> ImageTask:
    """Make the task of one image's maps; ``mirrored``: those of its mirror image, too."""
    recipe = Recipe(STAGE, VERSION, made_of, {"image": record.sha256, "mirrored": mirrored})
    return ImageTask(record, recipe, args={"mirrored": mirrored})


class DenseMapPass:
    """Computes maps on a device, as :func:`~stages.networks.forward.deterministic` says. Copies the network.

    Safe to call from several threads at once. Raises ``StageError`` as :func:`~stages.dense.windows.windows_of`.
    """

    def __init__(self, network: Network, storage: str, device: str, dtype: str = "float32") -> None:
        self.windows = windows_of(network)
        self.device, self._dtype = torch.device(device_of(device)), DTYPES[dtype]
        self._storage, self._spec, self._node = storage, network.input, network.conv5
        own = copy.deepcopy(network).eval().requires_grad_(False)
        form = torch.channels_last
        self._conv = own.graph([own.conv5]).to(self.device, self._dtype, memory_format=form)  # type: ignore[call-overload]

    def __call__(self, pixels: NDArray[np.uint8], scale_px: int, image: str) -> NDArray[Any]:
        """Compute the map of uint8 [H, W, 3] RGB at a scale, rounded to the storage: [y, x, c].

        StageError naming the image where it would be too large, or the map is not a number or does not fit the storage.
        """
        try:
            size = scaled_px(pixels.shape[1], pixels.shape[0], scale_px, self.windows)
        except StageError as error:
            raise StageError(f"{image}: {error}") from None
        with torch.inference_mode(), deterministic(self.device):
            ready = torch.from_numpy(scaled_image(pixels, self._spec, size))
            ready = ready.to(self.device, self._dtype, memory_format=torch.channels_last)
            with part("conv", self.device):
                fmap = self._conv(ready)[self._node]
            stored = stored_map(fmap[0].permute(1, 2, 0), self._storage, image)
        return np.ascontiguousarray(stored.cpu().numpy())


def window_boxes(
    rows: int, columns: int, windows: DenseWindows, scaled: tuple[int, int], width: int, height: int
) -> Boxes:
    """Return the places of a map's windows, row by row: float32 [rows * columns, 4], px of the image.

    Args:
        scaled: width and height to which the image of ``width`` x ``height`` px was brought.
    """
    starts_y, starts_x = (windows.stride_px * np.arange(count, dtype=np.float64) for count in (rows, columns))
    y, x = (grid.ravel() for grid in np.meshgrid(starts_y, starts_x, indexing="ij"))
    corners = np.stack([x, y, x + windows.side_px, y + windows.side_px], axis=1)
    by = np.array([width / scaled[0], height / scaled[1]] * 2)
    boxes: Boxes = (corners * by).astype(np.float32)
    return boxes


@dataclass(frozen=True)
class DenseMapsCompute(Compute):
    """One image's maps at all scales, and its mirror image's where the task says so."""

    on_device = True
    read_image: ReadImage
    network: Network
    device: str
    made_of: Mapping[str, Any]

    @cached_property
    def map_pass(self) -> DenseMapPass:
        """Return the convolutions on the device of this process."""
        return DenseMapPass(self.network, self.made_of["storage"], self.device, self.made_of["arithmetic"])

    def prepare(self) -> None:
        """Move the network to the device."""
        _ = self.map_pass

    def __call__(self, task: ImageTask) -> Payload:
        """Compute the image's maps."""
        record, pixels = task.image, self.read_image(task.image)
        sides = {False: pixels} | ({True: np.ascontiguousarray(pixels[:, ::-1])} if task.args["mirrored"] else {})
        maps = {
            array_of(scale, mirrored=mirrored): self.map_pass(side, scale, record.file_name)
            for scale in self.made_of["scales_px"]
            for mirrored, side in sides.items()
        }
        attrs = {**self.made_of, **image_attrs(record, len(maps)), "order": "row, column, channel"}
        return Payload(maps, attrs, "zarr")
