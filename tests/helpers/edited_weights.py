"""Weights files written again with something else in them, as a reader of files must bear it."""

from collections.abc import Callable
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

Change = Callable[[dict[str, Tensor], dict[str, str]], None]


def edited(change: Change) -> Callable[[Path], None]:
    """Write a file again with other tensors or metadata."""

    def apply(path: Path) -> None:
        with safe_open(path, "pt") as file:
            tensors, meta = {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118
        change(tensors, meta)
        save_file(tensors, path, meta)

    return apply


def without(name: str) -> Callable[[Path], None]:
    """Take a tensor, or an entry of the metadata, out of a file."""

    def change(tensors: dict[str, Tensor], meta: dict[str, str]) -> None:
        (tensors if name in tensors else meta).pop(name)

    return edited(change)
