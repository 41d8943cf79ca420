"""Views of a whole picture for a classification network: its corner and centre crops, itself, and their mirror images.

The picture is resized so that its shorter side has a given length, aspect ratio kept; the crops have the side of the
network's input and are cut from the whole of that picture, not from its central square (SPP paper section 3.1).
"""

import copy
import threading
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from numpy.typing import NDArray

from .errors import StageError
from .extraction import DTYPES, exact_arithmetic, use_one_thread
from .networks import InputSpec, Network
from .spp.image import scaled_image

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
    """StageError, naming the parameter group, where the picture is smaller than a crop or full ones cannot be taken."""
    side = network.input.side_px
    if short_side_px < side and any(view < FULL for view in views):
        raise StageError(
            f"{parameter}.short_side_px: {short_side_px} is less than the {side} px of {network.name}'s crops; raise it"
        )
    if network.pyramid is None and any(view >= FULL for view in views):
        raise StageError(
            f"{parameter}: full pictures have many sizes, and {network.name} without a pyramid takes crops of {side} "
            "px only; train it with network.pyramid, or ask for crops"
        )


class ViewNetwork:
    """Computes layers of a picture's views; safe to call from several threads at once.

    One batch of the crops and one of the full views, so a picture's values depend on no other picture. On a CPU each
    calling thread computes by itself; on CUDA one picture is in flight at a time, without TF32. ``network`` is copied.
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
        self._layers, self._short_side_px, self._views = tuple(layers), short_side_px, tuple(sorted(views))
        self._device, self._dtype = torch.device(device), DTYPES[dtype]
        own = copy.deepcopy(network).eval().requires_grad_(False)
        self._network = own.to(self._device, self._dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._graph = self._network.graph(self._layers)
        self._lock = threading.Lock() if self._device.type == "cuda" else nullcontext()

    def __call__(self, image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """uint8 [H, W, 3] RGB -> float32 [n views, d] per layer, views in ascending order.

        Raises ``StageError`` where a value is not a number.
        """
        use_one_thread(cpu=self._device.type == "cpu")
        parts: dict[str, list[NDArray[np.float32]]] = {layer: [] for layer in self._layers}
        for batch in view_batches(image, self._network.input, self._short_side_px, self._views):
            with torch.inference_mode(), self._lock, exact_arithmetic(self._device):
                pixels = torch.from_numpy(batch).to(self._device, self._dtype, memory_format=torch.channels_last)
                outputs = self._graph(pixels)
                for layer, rows in parts.items():
                    found = self._network.finish(layer, outputs[self._network.node(layer)])
                    rows.append(found.float().cpu().numpy())
        features = {layer: np.concatenate(rows) for layer, rows in parts.items()}
        for layer, values in features.items():
            if not np.isfinite(values).all():
                raise StageError(f"{layer} is not finite; network.weights or network.input are wrong")
        return features
