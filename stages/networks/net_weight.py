"""The files of OverFeat's authors, ``net_weight_0`` (fast) and ``net_weight_1`` (accurate): bare numbers, no header.

Little-endian float32, layer by layer: the weights [out, in, y, x], then the biases. There are 1,000 outputs, in the
order of ILSVRC2012's development kit (0 is the kit fox), which is not torchvision's (0 is the tench).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cache.errors import StageError

from .network import build
from .weights import require_weights_file

NET_WEIGHT: Mapping[str, str] = {"net_weight_0": "overfeat_fast", "net_weight_1": "overfeat_accurate"}
N_OUTPUTS = 1000
_NUMBER = np.dtype("<f4")


def is_net_weight(weights: str) -> bool:
    """Whether a value of ``network.weights`` is the path of such a file, which its name tells."""
    return Path(weights).name in NET_WEIGHT


def read_net_weight(path: Path, name: str, *, header_only: bool = False) -> dict[str, Tensor]:
    """Read the tensors of network ``name``, under the names of its state dict; they share the file's memory.

    What the file holds is told by its length, whatever it is called. With ``header_only`` that alone is looked at, and
    the tensors have no values (device ``meta``). ``StageError`` for a file of another length, for another network, and
    for numbers that are not finite.
    """
    if name not in NET_WEIGHT.values():
        raise StageError(
            f"{path}: OverFeat's authors' files hold weights of {' and '.join(NET_WEIGHT.values())}, network.name is "
            f"{name}; set network.name to one of them, or network.weights to a file of {name}"
        )
    shapes = _shapes_of(name)
    _check_length(path, name, shapes)
    if header_only:
        return {tensor: torch.empty(shape, device="meta") for tensor, shape in shapes.items()}
    return _read_numbers(path, shapes)


def _shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's tensors, in the file's order, which is that of its layers."""
    trunk = build(name, N_OUTPUTS, device="meta").trunk
    return {tensor: tuple(value.shape) for tensor, value in trunk.state_dict().items()}


def _check_length(path: Path, name: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ``StageError``, saying what there is, where a file has not the length that these tensors need."""
    try:
        require_weights_file(path)
        size = path.stat().st_size
    except OSError as error:
        raise StageError(f"{path}: cannot be read ({error}); check network.weights") from error
    needed = _count_of(shapes)
    if size == needed * _NUMBER.itemsize:
        return
    numbers, rest = divmod(size, _NUMBER.itemsize)
    held = f"{size:,} bytes, which is no whole number of float32" if rest else f"{numbers:,} numbers (float32)"
    fits = [other for other in NET_WEIGHT.values() if size == _count_of(_shapes_of(other)) * _NUMBER.itemsize]
    remedy = f"it fits {fits[0]}: set network.name to that" if fits else "it is damaged or another file; fetch it again"
    raise StageError(f"{path}: holds {held}, {name} has {needed:,} with {N_OUTPUTS:,} outputs; {remedy}")


def _count_of(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Count the numbers of all tensors."""
    return sum(int(np.prod(shape)) for shape in shapes.values())


def _read_numbers(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Map a file of the right length into memory and cut it into tensors of these shapes, one after another.

    A fully connected layer [out, in] takes the weights [out, c, y, x] as they lie: its input is flattened as (c, y, x).
    ``StageError`` naming the first number that is not finite.
    """
    try:
        numbers = np.memmap(path, _NUMBER, mode="c")  # may be written to, as torch wants it; the file is not
    except (OSError, ValueError) as error:
        raise StageError(f"{path}: cannot be read ({error}); check network.weights") from error
    found: dict[str, Tensor] = {}
    start = 0
    for name, shape in shapes.items():
        end = start + int(np.prod(shape))
        part = np.asarray(numbers[start:end])
        finite = np.isfinite(part)
        if not finite.all():
            at = int(np.argmin(finite))
            raise StageError(
                f"{path}: number {start + at:,} (0-based; {name}) is {part[at]}, the first of "
                f"{np.count_nonzero(~finite):,} in that tensor that are not finite; the file is damaged, fetch it again"
            )
        found[name] = torch.from_numpy(part.astype(np.float32, copy=False).reshape(shape))
        start = end
    return found
