"""Views of a whole picture for a classification network: its corner and centre crops, itself, and their mirror images.

The picture is resized so that its shorter side has a given length, aspect ratio kept; the crops have the side of the
network's input and are cut from the whole of that picture, not from its central square (SPP paper section 3.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cache import Payload, Recipe
from cache.errors import StageError
from manifests import ImageRecord
from stages.contract import Compute, ImageTask, ReadImage, image_attrs
from stages.networks.forward import ForwardPass, deterministic, device_of
from stages.networks.network import Network
from stages.networks.pixels import scaled_image
from stages.networks.spec import InputSpec
from stages.networks.weights import weights_digest
from stages.stopwatch import part

# Numbers of the views: four corners and the centre, the same mirrored left to right, the full picture, it mirrored.
CORNERS, CENTRE, MIRRORED_CORNERS, MIRRORED_CENTRE, FULL, MIRRORED_FULL = (0, 1, 2, 3), 4, (5, 6, 7, 8), 9, 10, 11


def view_batches(
    image: NDArray[np.uint8], spec: InputSpec, short_side_px: int, views: Sequence[int]
) -> list[NDArray[np.float32]]:
    """The views of uint8 [H, W, 3] RGB as the network takes them: the crops [n, 3, side, side], then the full ones.

    Either is left out where ``views`` (ascending numbers) has none. Corners are top left, top right, bottom left and
    bottom right; a mirrored crop is the mirror image of the crop five numbers before it.
    """
    scaled = scaled_image(image, spec, short_side_px)[0]  # [3, h, w]
    side, (height, width) = spec.side_px, scaled.shape[1:]
    low, right = height - side, width - side
    places = [(0, 0), (0, right), (low, 0), (low, right), (low // 2, right // 2)]
    cut = [scaled[:, y : y + side, x : x + side] for y, x in places]
    crops = [cut[view % 5][:, :, :: -1 if view >= len(cut) else 1] for view in views if view < FULL]
    full = [scaled[:, :, :: -1 if view == MIRRORED_FULL else 1] for view in views if view >= FULL]
    return [np.stack(batch) for batch in (crops, full) if batch]


def check_views(network: Network, short_side_px: int, views: Sequence[int], parameter: str) -> None:
    """StageError, naming the parameter group, where the picture is smaller than a crop or full ones cannot be taken.

    ``network`` is in evaluation mode and in main memory.
    """
    side, full = network.input.side_px, any(view >= FULL for view in views)
    if short_side_px < side and any(view < FULL for view in views):
        raise StageError(
            f"{parameter}.short_side_px: {short_side_px} is less than the {side} px of {network.name}'s crops; raise it"
        )
    if network.pyramid is None and full:
        raise StageError(
            f"{parameter}: full pictures have many sizes, and {network.name} without a pyramid takes crops of {side} "
            "px only; train it with network.pyramid, or ask for crops"
        )
    if full and short_side_px < side:
        try:
            with torch.inference_mode():
                network(torch.zeros(1, 3, short_side_px, short_side_px))
        except RuntimeError as error:
            raise StageError(
                f"{parameter}.short_side_px: {network.name} cannot take pictures of {short_side_px} px "
                f"({str(error).splitlines()[0]}); raise it, {side} px are its own"
            ) from error


class ViewNetwork:
    """Computes layers of a picture's views; safe to call from several threads at once.

    One batch of the crops and one of the full views, so a picture's values depend on no other picture. ``network`` is
    copied and computes as :class:`~stages.networks.forward.ForwardPass` says.
    """

    def __init__(
        self,
        network: Network,
        layers: Sequence[str],
        short_side_px: int,
        views: Sequence[int],
        *,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> None:
        self._input, self._short_side_px, self._views = network.input, short_side_px, tuple(sorted(views))
        self._forward = ForwardPass(network, layers, dtype=dtype, device=device)

    def __call__(self, image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """uint8 [H, W, 3] RGB -> float32 [n views, d] per layer, views in ascending order.

        Raises ``StageError`` where a value is not a number. Its times (``stopwatch``) are those of ``Extractor``.
        """
        with part("rest"), deterministic():
            batches = view_batches(image, self._input, self._short_side_px, self._views)
            computed = [self._forward(batch) for batch in batches]
        features = {layer: np.concatenate([rows[layer] for rows in computed]) for layer in computed[0]}
        for layer, values in features.items():
            if not np.isfinite(values).all():
                raise StageError(f"{layer} is not finite; network.weights or network.input are wrong")
        return features


def views_made_of(
    network: Network, layers: Sequence[str], dtype: str, short_side_px: int, views: Sequence[int]
) -> dict[str, Any]:
    """Everything but the picture that the layers' bits depend on: part of the key, and kept as attributes."""
    return network_made_of(network, layers, dtype) | {"short_side_px": short_side_px, "views": sorted(views)}


def network_made_of(network: Network, layers: Sequence[str], dtype: str) -> dict[str, Any]:
    """Everything of the network that the layers' bits depend on, whatever it looks at."""
    return {
        "layers": sorted(layers),
        "network": network.name,
        "weights_digest": weights_digest(network, layers),
        "pyramid": None if network.pyramid is None else list(network.pyramid),
        "pool5_grid": network.pool5_grid if "pool5" in layers else None,
        "input": network.input.as_json(),
        "arithmetic": dtype,
    }


def task_of(record: ImageRecord, stage: str, version: int, made_of: dict[str, Any]) -> ImageTask:
    """The task of computing one picture's object."""
    return ImageTask(record, Recipe(stage, version, made_of, {"image": record.sha256}))


@dataclass(frozen=True)
class ViewsCompute(Compute):
    """One picture to the layers of its views, as :func:`views_made_of` says; float32 [n views, d] by layer."""

    on_device = True
    read_image: ReadImage
    network: Network
    made_of: dict[str, Any]
    device: str

    @cached_property
    def views(self) -> ViewNetwork:
        """The network, on the device of this process."""
        made_of = self.made_of
        return ViewNetwork(
            self.network,
            made_of["layers"],
            made_of["short_side_px"],
            made_of["views"],
            dtype=made_of["arithmetic"],
            device=device_of(self.device),
        )

    def prepare(self) -> None:
        """Move the network to the device."""
        _ = self.views

    def __call__(self, task: ImageTask) -> Payload:
        """The layers of the picture's views."""
        record = task.image
        try:
            layers = self.views(self.read_image(record))
        except StageError as error:
            raise StageError(f"{record.file_name}: {error}") from error
        return Payload(layers, {**self.made_of, **image_attrs(record, len(self.made_of["views"]))}, "hdf5")
