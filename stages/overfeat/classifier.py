"""The classifier of windows: a network whose fully connected layers tell classes, and background, apart; as a file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cache import atomic_write, digest_array, digest_json
from cache.errors import StageError
from stages.networks.network import Network
from stages.networks.pyramid import put_module
from stages.networks.tensor_file import tensor_file, tensors_below
from stages.networks.weights import class_names_in, class_names_meta, metadata, network_in, open_weights

FORMAT = "rcnn-dense-1"
_NETWORK, _CONTEXT = "network/", "context/weight"


class ContextLayer(nn.Module):
    """An fc6 that takes two windows: its own layer of the first, and further weights of the one around it.

    The same as a layer of the two windows' values one after another.
    """

    def __init__(self, own: nn.Linear, around: nn.Linear) -> None:
        super().__init__()
        self.own, self.around = own, around

    def forward(self, pooled: Tensor) -> Tensor:
        """Map n windows, and the n around them, [2 n, d], to fc6 [n, units], before its ReLU."""
        count = len(pooled) // 2
        units: Tensor = self.own(pooled[:count]) + self.around(pooled[count:])
        return units


class WindowLayers(nn.Module):
    """The layers from a window's pooled values to logits. Shares the weights of its classifier."""

    def __init__(self, network: Network, around: nn.Linear | None) -> None:
        super().__init__()
        self.layers = network.fc_graph(["fc8"])
        self._logits, self._context = network.node("fc8"), around is not None
        if around is not None:
            path, own = _fc6(self.layers)
            put_module(self.layers, path, ContextLayer(own, around))

    def forward(self, pooled: Tensor) -> Tensor:
        """Map pooled windows [n, d], with context [n, 2 d], to logits [n, outputs].

        What stands before fc6, dropout or the norm of :mod:`stages.networks.spp_head`, takes each window by itself.
        """
        taken = torch.cat(pooled.chunk(2, dim=1)) if self._context else pooled
        logits: Tensor = self.layers(taken)[self._logits]
        return logits


def _fc6(layers: nn.Module) -> tuple[str, nn.Linear]:
    """Return the first fully connected layer, and its path."""
    return next((path, one) for path, one in layers.named_modules() if isinstance(one, nn.Linear))


@dataclass
class DenseClassifier:
    """A network that says of any window which class it shows.

    Attributes:
        network: in evaluation mode, with the convolutions.
        classes: the dataset's.
        columns: the network's output for each of them.
        background: whether the first output is for background; else it has none.
        around: fc6's weights for the window one scale below, without biases; None: it sees the window alone.
    """

    network: Network
    classes: tuple[str, ...]
    columns: tuple[int, ...]
    background: bool = True
    around: nn.Linear | None = None

    @property
    def context(self) -> bool:
        """Whether it takes the window of the same centre one scale below as well."""
        return self.around is not None

    def fc_module(self) -> WindowLayers:
        """Return the layers that map pooled windows [n, d], with context [n, 2 d], to logits; shares the weights."""
        return WindowLayers(self.network, self.around)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Turn logits [n, outputs] into each class's probability: float32 [n, C].

        Softmax over all outputs, of which background's, and those of classes that the dataset lacks, are dropped.
        """
        return torch.softmax(logits.float(), dim=1)[:, list(self.columns)]

    @property
    def digest(self) -> str:
        """Digest of all that turns pooled windows into probabilities; the convolutions are the maps' own affair."""
        state = self.fc_module().state_dict()
        tensors = {name: digest_array(tensor.detach().cpu().numpy()) for name, tensor in state.items()}
        form = [self.network.name, self.network.pyramid, self.network.fc, self.network.rectified]
        return digest_json({"form": form, "columns": self.columns, "tensors": tensors})


def new_classifier(
    network: Network, classes: Sequence[str], generator: torch.Generator, *, context: bool
) -> DenseClassifier:
    """Give a network a new last layer, of one output for background and one for each class, N(0, 0.01); changes it.

    With ``context`` fc6's new weights start at 0: training begins with the features that the network has, whatever
    the size of its maps, which differ by a factor of 100 between networks (ours).
    """
    network.new_head(len(classes) + 1, generator)
    around = None
    if context:
        own = _fc6(network.fc_graph(["fc8"]))[1]
        around = nn.Linear(own.in_features, own.out_features, bias=False)
        nn.init.zeros_(around.weight)
    return DenseClassifier(network.eval(), tuple(classes), tuple(range(1, len(classes) + 1)), around=around)


def classifier_as_it_is(
    network: Network, outputs: Sequence[str] | None, classes: Sequence[str], shown: str
) -> DenseClassifier:
    """Take a network as it was trained, without a class for background, for the classes of the dataset.

    Args:
        outputs: the names of its outputs, as its file has them.
        shown: the file's path, for the message: ``StageError`` where it has no output for a class.
    """
    lacking = [name for name in classes if outputs is None or name not in outputs]
    if outputs is None or lacking:
        found = "does not say what its outputs are" if outputs is None else f"has no output for {', '.join(lacking)}"
        raise StageError(
            f"finetune_dense.iterations: 0 takes the classifier as it is, but {shown} {found}; train it on windows "
            "(iterations above 0)"
        )
    columns = tuple(outputs.index(name) for name in classes)
    return DenseClassifier(network.eval(), tuple(classes), columns, background=False)


def save_classifier(path: Path, of: DenseClassifier, extra: Mapping[str, str] | None = None) -> None:
    """Write network and form as one safetensors file, whose metadata rebuilds them; equal weights give equal bytes."""
    tensors = {f"{_NETWORK}{name}": tensor for name, tensor in of.network.trunk.state_dict().items()}
    if of.around is not None:
        tensors[_CONTEXT] = of.around.weight
    form = {"background": of.background, "columns": list(of.columns)}
    meta = {
        **(extra or {}),
        **class_names_meta(of.classes),
        "format": FORMAT,
        "network": json.dumps(metadata(of.network)),
        "dense": json.dumps(form),
    }
    atomic_write(path, tensor_file(tensors, meta))


def load_classifier(path: Path) -> DenseClassifier:
    """Read what :func:`save_classifier` wrote; ``StageError`` for a foreign or damaged file."""
    tensors, meta = open_weights(path)
    if meta.get("format") != FORMAT:
        raise StageError(f"{path}: holds no classifier of windows; run the stage that wrote it again")
    try:
        network = network_in(path, tensors_below(tensors, _NETWORK), json.loads(meta["network"]))
        classes = class_names_in(path, meta) or ()
        form = json.loads(meta["dense"])
        background, columns = form["background"], form["columns"]
        _check(background, columns, len(classes), network.n_outputs)
        around = _around(network, tensors[_CONTEXT]) if _CONTEXT in tensors else None
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StageError(f"{path}: damaged weights ({reason}); run the stage that wrote it again") from error
    return DenseClassifier(network, classes, tuple(columns), background, around)


def _check(background: Any, columns: Any, n_classes: int, n_outputs: int) -> None:
    """Raise ValueError where these are no classes' outputs."""
    if type(background) is not bool or not isinstance(columns, list) or any(type(one) is not int for one in columns):
        raise ValueError("its outputs are not described")
    first = 1 if background else 0
    if len(columns) != n_classes or not n_classes or len(set(columns)) != n_classes:
        raise ValueError(f"{len(set(columns))} outputs for {n_classes} classes")
    if not first <= min(columns) <= max(columns) < n_outputs:
        raise ValueError(f"outputs from {min(columns)} to {max(columns)} of {n_outputs}")


def _around(network: Network, weight: Tensor) -> nn.Linear:
    """Make fc6's weights for the window around; ValueError where they are another layer's."""
    try:
        own = _fc6(network.fc_graph(["fc8"]))[1]
    except StageError as error:
        raise ValueError(str(error)) from None
    if weight.shape != own.weight.shape or weight.dtype != torch.float32:
        raise ValueError(f"{_CONTEXT} is {list(weight.shape)} of {weight.dtype}, expected {list(own.weight.shape)}")
    around = nn.Linear(own.in_features, own.out_features, bias=False, device="meta")
    around.weight = nn.Parameter(weight.clone())
    return around
