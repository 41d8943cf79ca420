"""A network's forward pass on a device: what every stage that computes layers has in common."""

import copy
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from cache.errors import StageError
from stages.stopwatch import part, switch

from .network import Network

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class ForwardPass:
    """Computes layers of batches; safe to call from several threads at once.

    On a CPU each calling thread computes by itself; on CUDA one batch is in flight at a time, without TF32.
    ``network`` is copied; ``dtype`` is the arithmetic's, features are float32 in any case.
    """

    def __init__(self, network: Network, layers: Sequence[str], *, dtype: str, device: str) -> None:
        self.device = torch.device(device)
        self._layers, self._dtype = tuple(layers), DTYPES[dtype]
        own = copy.deepcopy(network).eval().requires_grad_(False)
        # channels_last: two to three times faster convolutions on CPUs
        self._network = own.to(self.device, self._dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._graph = self._network.graph(self._layers)
        for module in self._graph.modules():
            if isinstance(module, torch.nn.Linear):  # and whatever comes after it
                module.register_forward_pre_hook(self._in_fc)
        self._lock = one_at_a_time(self.device)

    def __call__(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Pixels [n, 3, h, w] as the network's ``InputSpec`` has them -> float32 [n, d] per layer.

        Its times (``stopwatch``) are ``conv`` and ``fc``. Channels-last memory is taken as it is, without a copy.
        """
        network = self._network
        with torch.inference_mode(), self._lock, exact_arithmetic(self.device):
            ready = torch.from_numpy(batch).to(self.device, self._dtype, memory_format=torch.channels_last)
            with part("conv", self.device):
                outputs = self._graph(ready)
            return {
                layer: network.finish(layer, outputs[network.node(layer)]).float().cpu().numpy()
                for layer in self._layers
            }

    def feature_dim(self, layer: str) -> int:
        """Length d of a layer's feature of a crop."""
        return self._network.feature_dim(layer)

    def _in_fc(self, *_: Any) -> None:
        switch("fc", self.device)


def one_at_a_time(device: torch.device) -> AbstractContextManager[Any]:
    """A lock on CUDA, where threads that compute at once only take each other's memory; nothing on a CPU."""
    return threading.Lock() if device.type == "cuda" else nullcontext()


def exact_arithmetic(device: torch.device) -> AbstractContextManager[Any]:
    """On CUDA, deterministic full-precision convolutions inside; matrix products are at full precision by default."""
    if device.type != "cuda":
        return nullcontext()
    flags: AbstractContextManager[Any] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return flags


def device_of(setting: str) -> str:
    """The torch device that ``execution.device`` means: ``auto`` is cuda where there is one.

    Raises ``StageError`` for ``cuda`` on a machine without.
    """
    if setting == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if setting == "cuda" and not torch.cuda.is_available():
        raise StageError("execution.device: cuda, but torch finds no CUDA device; use auto or cpu")
    return setting


def device_name(setting: str) -> str:
    """The device that ``execution.device`` means, as an object's record names it: ``cpu``, or ``cuda`` and the GPU's.

    Raises ``StageError`` as :func:`device_of`.
    """
    device = device_of(setting)
    return f"{device} {torch.cuda.get_device_name()}" if device == "cuda" else device


@contextmanager
def one_thread_each() -> Iterator[None]:
    """One torch thread per calling thread inside; more would make the bits depend on their number."""
    before, cv_before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)  # images are already worked on in threads
    try:
        yield
    finally:
        torch.set_num_threads(before)
        cv2.setNumThreads(cv_before)


def use_one_thread(*, cpu: bool) -> None:
    """As :func:`one_thread_each` for the calling thread: of another process, or started before it."""
    if cpu and torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    if cv2.getNumThreads() != 1:
        cv2.setNumThreads(1)
