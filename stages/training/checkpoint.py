"""Checkpoints of a training run: written atomically, found only by the run they belong to."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import nn

from cache import atomic_write, digest_json
from cache.errors import StageError
from stages.networks.tensor_file import tensor_file, tensors_below

from .curve import Progress
from .solver import MomentumSGD


class Checkpoint:
    """One file that holds weights, momentum and :class:`Progress` of a run; safetensors, never pickle.

    ``identity`` (hex SHA-256) is the digest of everything the run depends on: inputs, parameters, seed, versions. It
    is in the file's name and inside the file, so a checkpoint of another run is never picked up. One file, replaced
    atomically, so that weights and progress cannot disagree.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.identity = digest_json(dict(identity))
        self.path = folder / f"{self.identity[:24]}.safetensors"

    def save(self, model: nn.Module, solver: MomentumSGD, progress: Progress) -> None:
        """Write the run's state, durable once this returns."""
        tensors = {f"network/{k}": v for k, v in model.state_dict().items()}
        tensors |= {f"velocity/{k}": v for k, v in solver.velocity.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"identity": self.identity, "progress": json.dumps(progress.as_json())}
        atomic_write(self.path, tensor_file(tensors, metadata))

    def restore(self, model: nn.Module, solver: MomentumSGD) -> Progress:
        """Load the state into ``model`` and ``solver``; a fresh :class:`Progress` where there is none.

        Raises StageError where the file is there but cannot be read.
        """
        if not self.path.exists():
            return Progress()
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
            if metadata["identity"] != self.identity:
                raise KeyError("identity")
            progress = Progress.from_json(json.loads(metadata["progress"]))
            model.load_state_dict(tensors_below(tensors, "network/"))
            for name, velocity in solver.velocity.items():
                velocity.copy_(tensors[f"velocity/{name}"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise StageError(f"{self.path}: the checkpoint is damaged ({error}); delete it to begin again") from error
        return progress

    def remove(self) -> None:
        """Delete the file, if there is one."""
        with suppress(FileNotFoundError):
            self.path.unlink()
