"""Checkpoints of a training run: written atomically, found only by the run they belong to."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from cache import atomic_write, digest_json
from cache.errors import StageError
from stages.networks.tensor_file import tensor_file

from .solver import MomentumSGD


@dataclass(frozen=True)
class Progress:
    """How far a run is: iterations done, the curve's rows so far, and losses summed since the last row."""

    iteration: int = 0
    rows: tuple[Mapping[str, float], ...] = ()
    loss_sum: float = 0.0
    loss_count: int = 0


class Checkpoint:
    """One file that holds weights, momentum and :class:`Progress` of a run; safetensors, never pickle.

    ``identity`` is everything the run depends on (digests of inputs, parameters, seed, versions): its digest
    is in the file's name and inside the file, so a checkpoint of another run is never picked up. One file,
    replaced atomically, so that weights and progress cannot disagree.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.identity = digest_json(dict(identity))
        self.path = folder / f"{self.identity[:24]}.safetensors"

    def save(self, network: nn.Module, solver: MomentumSGD, progress: Progress) -> None:
        """Write the run's state, durable once this returns."""
        tensors = {f"network/{k}": v for k, v in network.state_dict().items()}
        tensors |= {f"velocity/{k}": v for k, v in solver.velocity.items()}
        state = {"iteration": progress.iteration, "rows": [dict(r) for r in progress.rows]}
        state |= {"loss_sum": progress.loss_sum, "loss_count": progress.loss_count}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"identity": self.identity, "progress": json.dumps(state)}
        atomic_write(self.path, tensor_file(tensors, metadata))

    def restore(self, network: nn.Module, solver: MomentumSGD) -> Progress:
        """Load the state into ``network`` and ``solver``; a fresh :class:`Progress` where there is none.

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
            progress = _progress(json.loads(metadata["progress"]))
            network.load_state_dict(_below(tensors, "network/"))
            for name, velocity in solver.velocity.items():
                velocity.copy_(tensors[f"velocity/{name}"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise StageError(f"{self.path}: the checkpoint is damaged ({error}); delete it to begin again") from error
        return progress

    def remove(self) -> None:
        """Delete the file, if there is one."""
        with suppress(FileNotFoundError):
            self.path.unlink()


def _progress(state: Mapping[str, Any]) -> Progress:
    """Inverse of what ``save`` writes; KeyError, TypeError or ValueError for anything else."""
    progress = Progress(state["iteration"], tuple(state["rows"]), state["loss_sum"], state["loss_count"])
    if type(progress.iteration) is not int or type(progress.loss_count) is not int or progress.iteration < 0:
        raise ValueError("progress has no count of iterations")
    if not isinstance(progress.loss_sum, float | int) or not all(isinstance(row, dict) for row in progress.rows):
        raise ValueError("progress has no losses")
    return progress


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
