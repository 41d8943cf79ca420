"""CNN weights on disk: safetensors whose metadata rebuilds the network."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cache import atomic_write
from cache.errors import StageError
from manifests.files import lfs_pointer

from .network import Network, build
from .settings import MAX_FC, MAX_LEVEL, MAX_LEVELS
from .spec import InputSpec
from .tensor_file import TYPES, tensor_file

FORMAT = "rcnn-weights-1"
_SHOWN = 5  # tensors named in an error


def save_weights(path: Path, network: Network, extra_meta: Mapping[str, str] | None = None) -> None:
    """Write the weights as safetensors; the metadata rebuilds the network (architecture, outputs, input, grid).

    The file's tensors have torchvision's names. Equal weights give equal bytes. Written to a temporary name and
    renamed, so a killed run leaves no half file. ``extra_meta`` is kept as it is (strings).
    """
    meta = {
        **(extra_meta or {}),
        "format": FORMAT,
        **metadata(network),
    }
    atomic_write(path, tensor_file(network.trunk.state_dict(), meta))


def class_names_meta(classes: Sequence[str] | None) -> dict[str, str]:
    """Metadata for :func:`save_weights` that says what the outputs are; nothing where the names are not known."""
    return {} if classes is None else {"classes": json.dumps(list(classes))}


def class_names(path: Path) -> tuple[str, ...] | None:
    """What a weights file says its outputs are; None where it says nothing. StageError as :func:`load_weights`."""
    return class_names_in(path, open_weights(path)[1])


def class_names_in(path: Path, meta: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return what :func:`class_names` does, of metadata that has been read."""
    try:
        names = json.loads(meta.get("classes", "null"))
        if names is not None and (not isinstance(names, list) or not all(isinstance(name, str) for name in names)):
            raise ValueError("classes is not a list of names")
    except (ValueError, RecursionError) as error:
        raise StageError(f"{path}: damaged weights metadata ({error}); run the stage that wrote it again") from error
    return None if names is None else tuple(names)


def load_weights(path: Path, device: str = "cpu", *, pool5_grid: int | None = None) -> Network:
    """Load the network that a weights file of this package describes, in evaluation mode.

    ``pool5_grid`` (``network.pool5_grid``) is the grid that pool5 is brought to, in place of the file's; None: the
    file's.

    Raises ``StageError`` for a missing or foreign file, or tensors that do not fit the architecture it names.
    """
    tensors, meta = open_weights(path)
    if meta.get("format") != FORMAT:
        raise StageError(
            f"{path}: not written by this pipeline (format {meta.get('format')!r}, expected {FORMAT!r}); "
            "use it as network.weights with network.name and network.input instead"
        )
    network = network_in(path, tensors, meta).to(device)
    if pool5_grid is not None:
        network.pool5_grid = pool5_grid
    return network


def network_in(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, str]) -> Network:
    """Build the network of what :func:`open_weights` has read, as :func:`load_weights` does."""
    try:
        network = network_of(meta)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise StageError(f"{path}: damaged weights metadata ({error}); run the stage that wrote it again") from error
    fill(network, tensors, str(path))
    return network.eval()


def fill(network: Network, tensors: Mapping[str, Tensor], where: str) -> None:
    """Put tensors into a network; one ``StageError`` naming what is missing, unexpected or of another shape."""
    own = network.trunk.state_dict()
    expected = {k: tuple(v.shape) for k, v in own.items()}
    found = {k: tuple(v.shape) for k, v in tensors.items()}
    problems = [f"{k} is missing (expected {_by(s)})" for k, s in expected.items() if k not in found]
    problems += [f"{k} is {_by(found[k])}, expected {_by(s)}" for k, s in expected.items() if found.get(k, s) != s]
    problems += [f"{k} {_by(s)} is not in the network" for k, s in found.items() if k not in expected]
    problems += [f"{k} is {v.dtype}, not floats" for k, v in tensors.items() if k in own and _is_other(v, own[k])]
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise StageError(
            f"{where}: weights do not fit network {network.name} with {network.n_outputs} outputs: "
            f"{'; '.join(problems[:_SHOWN])}{more}. Check network.name and network.weights"
            f"{'' if network.pyramid is None else ' (network.pyramid needs weights trained with it)'}"
        )
    # a copy of its own in float32: the file's memory may be shared or of half precision
    state = {k: v.to(torch.float32, copy=True) if v.is_floating_point() else v.clone() for k, v in tensors.items()}
    network.trunk.load_state_dict(state, assign=True)
    for parameter in network.trunk.parameters():
        parameter.requires_grad_(True)


def _is_other(found: Tensor, expected: Tensor) -> bool:
    """Whether one of them holds floats (which are converted to float32) and the other does not."""
    return found.is_floating_point() != expected.is_floating_point()


def weights_digest(network: Network, layers: Sequence[str]) -> str:
    """sha256 (hex) over what turns the network's input into the layers, and over nothing behind them.

    That is the architecture, the layers' nodes, the tensors before them, whether logits are rectified, and of a network
    with ``network.fc`` (:mod:`.spp_head`) the pyramid and the new layers, which hold parts without tensors. Changing
    fc8 does not change the digest of fc7 and below; changing fc6 does not change pool5's.

    What is done to an image before the network and to pool5 behind it (``InputSpec``, ``pool5_grid``), and the levels
    of a pyramid before an architecture's own fc6, are for the caller to name beside the digest, as all do.
    """
    digest = hashlib.sha256()
    nodes = sorted({network.node(layer) for layer in layers})
    digest.update(json.dumps([network.name, nodes]).encode())
    graph = network.graph(layers)
    if not network.rectified and network.rectifier in dict(graph.named_modules()):
        digest.update(b"logits not rectified")
    # Only here: the norm before a new fc6 is its mark, and digests of networks without one stay as they were.
    if any(isinstance(module, torch.nn.RMSNorm) for module in graph.modules()):
        digest.update(json.dumps({"pyramid": network.pyramid, "fc": network.fc}).encode())
    for name, tensor in sorted(graph.state_dict().items()):
        if name.endswith("num_batches_tracked"):
            continue  # batch norm's counter; evaluation does not read it
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(json.dumps([name, str(array.dtype), list(array.shape)]).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def require_weights_file(path: Path) -> None:
    """Raise ``StageError`` where there is no file, or only git's pointer to one; OSError where it is closed."""
    if not path.is_file():
        raise StageError(f"{path}: no such weights file; check network.weights, or run the stage that writes it")
    with path.open("rb") as file:
        if pointer := lfs_pointer(file.read(64)):
            raise StageError(f"{path}: {pointer}")


def open_weights(path: Path, *, header_only: bool = False) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a safetensors file, and its metadata; StageError where it is none.

    With ``header_only`` they have shape and type but no values (device ``meta``), and nothing else is read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        require_weights_file(path)
        with safe_open(path, "pt") as file:
            read = (lambda name: _described(file.get_slice(name))) if header_only else file.get_tensor
            return {k: read(k) for k in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise StageError(
            f"{path}: not a readable safetensors file ({error}); pickled weights (.pt, .pth) are refused, "
            "convert them with safetensors.torch.save_file"
        ) from error


def _described(entry: Any) -> Tensor:
    """Return a tensor without values, as a safetensors header describes it."""
    return torch.empty(entry.get_shape(), dtype=TYPES.get(entry.get_dtype(), torch.float32), device="meta")


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


_MAX_GRID = 32
_MAX_CHANNELS = 65_536
MAX_OUTPUTS = 1_000_000


def metadata(network: Network) -> dict[str, str]:
    """Architecture, outputs, pool5's form and the input convention, as strings."""
    meta = {
        "architecture": network.name,
        "n_outputs": str(network.n_outputs),
        "pool5_grid": json.dumps(network.pool5_grid),
        "input": json.dumps(network.input.as_json(), sort_keys=True),
        "rectified": json.dumps(network.rectified),
    }
    if network.pyramid is not None:
        meta["pyramid"] = json.dumps(network.pyramid)
    if network.fc is not None:
        meta["fc"] = json.dumps(network.fc)
    if network.map_channels is not None:
        meta["map_channels"] = str(network.map_channels)
    return meta


def network_of(meta: Mapping[str, str]) -> Network:
    """Inverse of :func:`metadata`, without weights (device ``meta``).

    Raises ``KeyError``, ``TypeError``, ``ValueError`` or ``RecursionError`` for damaged metadata, and ``StageError``
    for an architecture that there is not.
    """
    spec = InputSpec.from_json(json.loads(meta["input"]))
    grid, n_outputs = json.loads(meta["pool5_grid"]), int(meta["n_outputs"])
    name, pyramid, fc = meta["architecture"], *(json.loads(meta.get(key, "null")) for key in ("pyramid", "fc"))
    _check(grid, n_outputs, pyramid, fc)
    network = build(name, n_outputs, pool5_grid=grid, pyramid=pyramid, fc=fc, spec=spec, device="meta")
    if meta.get("rectified") == "false":
        network.drop_rectifier()
    if "map_channels" in meta:
        channels = int(meta["map_channels"])
        if not 1 <= channels <= _MAX_CHANNELS or fc is None:
            raise ValueError(f"map_channels {channels}")
        network.take_channels(channels, None)
    return network


def _check(grid: object, n_outputs: int, pyramid: object, fc: object) -> None:
    """ValueError for figures that no network has, since memory is taken for them before a tensor is looked at."""
    if grid is not None and (type(grid) is not int or not 1 <= grid <= _MAX_GRID):
        raise ValueError(f"pool5_grid {grid!r}")
    if not 1 <= n_outputs <= MAX_OUTPUTS:
        raise ValueError(f"n_outputs {n_outputs}")
    if pyramid is not None and not _are_numbers(pyramid, 1, MAX_LEVELS, MAX_LEVEL):
        raise ValueError(f"pyramid {str(pyramid)[:80]!r}")
    if fc is not None and (pyramid is None or not _are_numbers(fc, 2, 2, MAX_FC)):
        raise ValueError(f"fc {str(fc)[:80]!r}")


def _are_numbers(value: object, fewest: int, most: int, largest: int) -> bool:
    """Whether it is a list of ``fewest`` to ``most`` integers from 1 to ``largest``."""
    if not isinstance(value, list) or not fewest <= len(value) <= most:
        return False
    return all(type(number) is int and 1 <= number <= largest for number in value)
