"""The box regressor: where in its window an object lies (OverFeat sections 4.2 and 4.3); as a file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cache import atomic_write, digest_array, digest_json
from cache.errors import StageError
from stages.boxes.geometry import Boxes
from stages.networks.settings import MAX_FC
from stages.networks.spp_head import LAST_LAYER_STD
from stages.networks.tensor_file import tensor_file, tensors_below
from stages.networks.weights import class_names_in, class_names_meta, open_weights

FORMAT = "rcnn-edges-1"
EDGES = 4  # x1, y1, x2, y2
_MOST_CLASSES = 100_000  # of a file that is to be believed
_MOST_VALUES = 2**24  # of a window, likewise


def encode_edges(windows: NDArray[Any], objects: NDArray[Any]) -> NDArray[np.float64]:
    """Tell where objects lie in their windows' own frame: two [n, 4] px -> float64 [n, 4].

    Each edge's distance from the window's left or upper edge, in the window's width or height (ours: the paper has
    "shifted into the frame of reference" of the window): an object that fills its window has 0, 0, 1, 1.
    """
    corner, extent = _frames(windows)
    return (np.asarray(objects, np.float64).reshape(-1, EDGES) - corner) / extent


def decode_edges(windows: NDArray[Any], edges: NDArray[Any]) -> NDArray[np.float32]:
    """Invert :func:`encode_edges` for K objects a window: [n, 4] px, [n, K, 4] -> float32 [n, K, 4] px, not clipped."""
    corner, extent = _frames(windows)
    placed: NDArray[np.float64] = np.asarray(edges, np.float64) * extent[:, None] + corner[:, None]
    return placed.astype(np.float32)


def _frames(windows: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return corners and extents of windows, for all four edges: two float64 [n, 4]."""
    frames = np.asarray(windows, np.float64).reshape(-1, EDGES)
    return np.tile(frames[:, :2], 2), np.tile(frames[:, 2:] - frames[:, :2], 2)


@dataclass
class EdgeRegressor:
    """Predicts an object's edges from a window.

    Attributes:
        layers: pooled windows [n, d] to standardised edges [n, 4], or of each class [n, 4 C].
        mean, std: float64 [4], what the edges (:func:`encode_edges`) were standardised by.
        classes: the dataset's.
        per_class: whether each class has a last layer of its own.
        conv_digest: of all that made the maps it was trained on (``weights_digest`` of conv5).
    """

    layers: nn.Sequential
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    classes: tuple[str, ...]
    per_class: bool
    conv_digest: str

    def edges(self, pooled: Tensor, windows: Boxes, labels: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Predict where the object of each window lies: float32 [n, K, 4], px of the image, not clipped.

        Args:
            pooled: [n, d], as fc6 takes windows, on the layers' device.
            windows: float32 [n, 4], their places, px of the image.
            labels: int64 [n, K], or [K] for all windows alike: the classes that each is asked of; None: all classes.
                Of no effect where there is one regressor for all: K is then 1.
        """
        with torch.inference_mode():
            found = self.layers(pooled).float().unflatten(1, (-1, EDGES)).cpu().numpy()
        if self.per_class and labels is not None:
            asked = np.broadcast_to(labels, (len(found), labels.shape[-1]))
            found = np.take_along_axis(found, asked[:, :, None], axis=1)
        return decode_edges(windows, found.astype(np.float64) * self.std + self.mean)

    def standardised(self, windows: NDArray[Any], objects: NDArray[Any]) -> NDArray[np.float32]:
        """Return what the layers are to answer: two [n, 4] px -> float32 [n, 4]."""
        return ((encode_edges(windows, objects) - self.mean) / self.std).astype(np.float32)

    @property
    def length(self) -> int:
        """Values that it takes of a window."""
        return _linear(self.layers)[0].in_features

    @property
    def units(self) -> tuple[int, ...]:
        """Outputs of its hidden layers."""
        return tuple(one.out_features for one in _linear(self.layers)[:-1])

    @property
    def digest(self) -> str:
        """Digest of all that turns pooled windows into edges."""
        state = self.layers.state_dict()
        tensors = {name: digest_array(tensor.detach().cpu().numpy()) for name, tensor in state.items()}
        return digest_json({"norm": digest_array(self.mean, self.std), "per_class": self.per_class, "tensors": tensors})

    def check_conv(self, digest: str, shown: str) -> None:
        """Raise ``StageError`` where maps are of other weights than those it was trained on.

        Args:
            digest: ``weights_digest`` of conv5, of what made the maps.
            shown: the regressor's path, for the message.
        """
        if digest != self.conv_digest:
            raise StageError(f"{shown}: trained on maps of other weights; run `dvc repro`, which trains it anew")


def _linear(layers: nn.Sequential) -> list[nn.Linear]:
    return [one for one in layers if isinstance(one, nn.Linear)]


def edge_layers(length: int, units: Sequence[int], outputs: int, device: str = "cpu") -> nn.Sequential:
    """Build the regressor's layers (section 4.2): two hidden ones with ReLU, and the edges.

    Each window's values are first brought to a root mean square of 1, since networks differ by a factor of 100 in how
    large their conv5 is, and one learning rate is to suit all (ours; as :mod:`stages.networks.spp_head` does).
    """
    layers: list[nn.Module] = [nn.RMSNorm(length, eps=1e-6, elementwise_affine=False, device=device)]
    for inputs, size in zip((length, *units), units, strict=False):
        layers += [nn.Linear(inputs, size, device=device), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(units[-1], outputs, device=device))


def new_edge_layers(length: int, units: Sequence[int], outputs: int, generator: torch.Generator) -> nn.Sequential:
    """Draw layers as :func:`edge_layers` builds them (ours).

    Hidden ones as He et al. (2015) have it, which keeps the size of what goes through, the last N(0, 0.01); biases 0.
    """
    layers = edge_layers(length, units, outputs)
    *hidden, last = _linear(layers)
    for layer in hidden:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
    nn.init.normal_(last.weight, std=LAST_LAYER_STD, generator=generator)
    for layer in (*hidden, last):
        nn.init.zeros_(layer.bias)
    return layers


def save_regressor(path: Path, of: EdgeRegressor, extra: Mapping[str, str] | None = None) -> None:
    """Write a regressor as one safetensors file, whose metadata rebuilds it; equal weights give equal bytes."""
    tensors = {f"layers/{name}": tensor for name, tensor in of.layers.state_dict().items()}
    tensors |= {"norm/mean": torch.from_numpy(of.mean), "norm/std": torch.from_numpy(of.std)}
    form = {"length": of.length, "units": list(of.units), "per_class": of.per_class, "conv_digest": of.conv_digest}
    meta = {**(extra or {}), **class_names_meta(of.classes), "format": FORMAT, "edges": json.dumps(form)}
    atomic_write(path, tensor_file(tensors, meta))


def load_regressor(path: Path) -> EdgeRegressor:
    """Read what :func:`save_regressor` wrote, in evaluation mode; ``StageError`` for a foreign or damaged file."""
    tensors, meta = open_weights(path)
    if meta.get("format") != FORMAT:
        raise StageError(f"{path}: holds no box regressor of windows; run the stage that wrote it again")
    try:
        form = json.loads(meta["edges"])
        classes = class_names_in(path, meta) or ()
        length, units, per_class, digest = _form(form, len(classes))
        outputs = EDGES * (len(classes) if per_class else 1)
        layers = edge_layers(length, units, outputs, device="meta")
        state = tensors_below(tensors, "layers/")
        if any(tensor.dtype != torch.float32 for tensor in state.values()):
            raise ValueError("weights that are not float32")
        layers.load_state_dict(state, assign=True)
        mean, std = (_norm(tensors[f"norm/{name}"]) for name in ("mean", "std"))
        if not (std > 0).all():
            raise ValueError("the deviation of edges is not above 0")
    except (KeyError, TypeError, ValueError, RuntimeError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StageError(f"{path}: damaged weights ({reason}); run the stage that wrote it again") from error
    return EdgeRegressor(layers.eval().requires_grad_(False), mean, std, classes, per_class, digest)


def _form(form: Mapping[str, Any], n_classes: int) -> tuple[int, list[int], bool, str]:
    """Return length, units, per_class and the maps' digest; KeyError, TypeError or ValueError for anything else."""
    length, units, per_class, digest = (form[name] for name in ("length", "units", "per_class", "conv_digest"))
    if type(length) is not int or not 1 <= length <= _MOST_VALUES:
        raise ValueError(f"length {length!r}")
    if not isinstance(units, list) or len(units) != 2 or any(type(n) is not int or not 1 <= n <= MAX_FC for n in units):
        raise ValueError(f"units {str(units)[:80]}")
    if type(per_class) is not bool or not isinstance(digest, str) or not 1 <= n_classes <= _MOST_CLASSES:
        raise ValueError("its form is not described")
    return length, units, per_class, digest


def _norm(found: Tensor) -> NDArray[np.float64]:
    """Return a mean or deviation of edges; ValueError for anything else."""
    if found.shape != (EDGES,) or found.dtype != torch.float64 or not bool(torch.isfinite(found).all()):
        raise ValueError("the mean and deviation of edges are not four numbers")
    return found.numpy()
