"""Where a network's weights come from before any fine-tuning: a safetensors file, OverFeat's authors', torchvision."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor

from cache.errors import StageError

from .architectures import ARCHITECTURES
from .net_weight import N_OUTPUTS, NET_WEIGHT, is_net_weight, read_net_weight
from .network import Network, build
from .settings import InputSettings, NetworkSettings
from .spec import InputSpec
from .weights import FORMAT, MAX_OUTPUTS, fill, network_in, open_weights

_PICKLES = (".pth", ".pt", ".pkl", ".pickle", ".bin", ".ckpt", ".tar")


def initial_network(settings: NetworkSettings, root: Path) -> Network:
    """Make the network that ``network.weights`` names (not ``pretrain``), in evaluation mode, before any fine-tuning.

    A path ending in .safetensors (relative to ``root``) holds foreign or own weights; the output count is the file's.
    One that ends in net_weight_0 or net_weight_1 is OverFeat's authors' (:mod:`.net_weight`). No pickle is read.
    Anything else is a torchvision weights name such as IMAGENET1K_V1, which torchvision downloads into torch.hub's
    cache. With ``network.fc`` the network may still lack the layers of that parameter (:func:`.network.add_fc_head`
    makes them). ``StageError`` says what does not fit.
    """
    if settings.weights.endswith(".safetensors"):
        path = root / settings.weights
        network = _from_file(settings, path, *open_weights(path))
    elif is_net_weight(settings.weights):
        network = _from_authors(settings, root / settings.weights, header_only=False)
    else:
        network = _from_torchvision(settings)
    _check_side(network)
    return network


def planned_network(settings: NetworkSettings, root: Path) -> Network:
    """Return the network that :func:`initial_network` would, without weights (device ``meta``): quick, for any size.

    Of a file only the header (or the length) is read, and nothing is downloaded; what does not fit is refused in the
    same words, but for numbers that are not finite.
    """
    if settings.weights.endswith(".safetensors"):
        path = root / settings.weights
        network = _from_file(settings, path, *open_weights(path, header_only=True))
    elif is_net_weight(settings.weights):
        network = _from_authors(settings, root / settings.weights, header_only=True)
    else:
        weights = _torchvision_weights(settings)
        network = _built(settings, _convention_of(weights), len(weights.meta["categories"]))
    _check_side(network)
    return network


def _check_side(network: Network) -> None:
    """Raise ``StageError`` where crops of the input's side cannot pass through the network."""
    try:
        network.feature_dim("fc8")
    except RuntimeError as error:
        own = ARCHITECTURES[network.name].input.side_px
        reason = str(error).splitlines()[0]
        raise StageError(
            f"network.input.side_px: {network.name} cannot take crops of {network.input.side_px} px ({reason}); "
            f"its own are {own} px (null)"
        ) from error


def _from_file(
    settings: NetworkSettings, path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, str]
) -> Network:
    """Build the network of a safetensors file, this package's or another's, from what was read of it."""
    if meta.get("format") == FORMAT:
        return _adjusted(settings, path, network_in(path, tensors, meta))
    return _from_foreign(settings, path, tensors)


def _adjusted(settings: NetworkSettings, path: Path, network: Network) -> Network:
    """Adjust the network of a file of this package to the parameters; ``StageError`` where it is another network."""
    if network.name != settings.name:
        raise StageError(f"{path}: holds weights of {network.name}, network.name is {settings.name}")
    replaced = settings.fc is not None and network.fc is None  # layers to come take the place of the file's
    for parameter, held, wanted in (
        ("pyramid", network.pyramid, network.pyramid if replaced else settings.pyramid),
        ("fc", network.fc, None if network.fc is None else settings.fc),
    ):
        if held != wanted:
            raise StageError(
                f"{path}: holds weights with {parameter} {_shown(held)}, network.{parameter} is {_shown(wanted)}; "
                "set it to the file's"
            )
    network.input = _spec(settings.input, network.input)
    if settings.pool5_grid is not None:
        network.pool5_grid = settings.pool5_grid
    return network


def _from_foreign(settings: NetworkSettings, path: Path, tensors: Mapping[str, Tensor]) -> Network:
    """Build the network of a file that says nothing but its tensors, which have torchvision's names."""
    head = ARCHITECTURES[settings.name].head
    if f"{head}.bias" not in tensors:
        raise StageError(f"{path}: no tensor {head}.bias, the last layer of {settings.name}; check network.name")
    n_outputs = tensors[f"{head}.bias"].numel()  # of whatever shape: ``fill`` says what is wrong with it
    if not 1 <= n_outputs <= MAX_OUTPUTS:
        raise StageError(f"{path}: {head}.bias has {n_outputs} values, one per output; check network.weights")
    return _filled(settings, ARCHITECTURES[settings.name].input, n_outputs, tensors, str(path))


def _from_authors(settings: NetworkSettings, path: Path, *, header_only: bool) -> Network:
    """Build OverFeat with what its authors' file holds, and their input convention."""
    tensors = read_net_weight(path, settings.name, header_only=header_only)
    return _filled(settings, ARCHITECTURES[settings.name].input, N_OUTPUTS, tensors, str(path))


def _from_torchvision(settings: NetworkSettings) -> Network:
    """Build a network with torchvision's weights of the given name, and the input convention that comes with them."""
    weights = _torchvision_weights(settings)
    try:
        tensors = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise StageError(
            f"network.weights: cannot download {weights.url}: {error}; where there is no network, fetch that file "
            f"elsewhere and put it into {folder}, or give a .safetensors file"
        ) from error
    n_outputs = len(tensors[f"{ARCHITECTURES[settings.name].head}.bias"])
    return _filled(settings, _convention_of(weights), n_outputs, tensors, weights.url)


def _torchvision_weights(settings: NetworkSettings) -> Any:
    """Return torchvision's entry for ``network.weights``; StageError where it has none, or the name is a file's."""
    if settings.weights.lower().endswith(_PICKLES):
        raise StageError(
            f"network.weights: {settings.weights} is a pickle, and reading one can run any code; convert one that "
            "you trust with safetensors.torch.save_file (docs/own-data.md) and give the .safetensors file"
        )
    try:
        model_weights = torchvision.models.get_model_weights(settings.name)
    except ValueError:
        raise StageError(
            f"network.weights: torchvision has no network {settings.name}, so {settings.weights!r} is no weights name; "
            f"use 'pretrain' or a .safetensors file{_or_authors_file(settings.name)}"
        ) from None
    if settings.weights not in model_weights.__members__:
        raise StageError(
            f"network.weights: torchvision has no {settings.weights!r} for {settings.name}; there are "
            f"{', '.join(model_weights.__members__)}, or use 'pretrain' or a .safetensors file"
        )
    return model_weights[settings.weights]


def _or_authors_file(name: str) -> str:
    """Name the authors' file of a network, where there is one, behind other choices."""
    return "".join(f", or the authors' {file}" for file, network in NET_WEIGHT.items() if network == name)


def _convention_of(weights: Any) -> InputSpec:
    """Return the input convention of an entry of torchvision's."""
    preset = weights.transforms()
    return InputSpec(preset.crop_size[0], "rgb", 1.0, tuple(preset.mean), tuple(preset.std))


def _filled(
    settings: NetworkSettings, own: InputSpec, n_outputs: int, tensors: Mapping[str, Tensor], where: str
) -> Network:
    """Build a network that holds the tensors; ``own`` is its input where the parameters give none."""
    network = _built(settings, own, n_outputs)
    fill(network, tensors, where)
    return network.eval()


def _built(settings: NetworkSettings, own: InputSpec, n_outputs: int) -> Network:
    """Return the network that the parameters describe, without weights (device ``meta``)."""
    return build(
        settings.name,
        n_outputs,
        pool5_grid=settings.pool5_grid,
        pyramid=settings.pyramid if settings.fc is None else None,
        spec=_spec(settings.input, own),
        device="meta",
    ).eval()


def _spec(settings: InputSettings | None, default: InputSpec) -> InputSpec:
    """Return the input convention that the parameters give, or the default."""
    if settings is None:
        return default
    side = default.side_px if settings.side_px is None else settings.side_px
    return InputSpec(side, settings.color_order, float(settings.value_range), settings.mean, settings.std)


def _shown(numbers: tuple[int, ...] | None) -> str:
    """Write a list parameter as params.yaml has it."""
    return "null" if numbers is None else str(list(numbers))
