"""A network's forward pass on a device, and how it computes the same bits whoever calls it."""

import copy
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cache.errors import StageError
from stages.stopwatch import part, switch

from .network import Network

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CPU = torch.device("cpu")


def device_of(setting: str) -> str:
    """Choose the torch device that ``execution.device`` means: ``auto`` is cuda where there is one.

    Raises ``StageError`` for ``cuda`` on a machine without.
    """
    if setting == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if setting == "cuda" and not torch.cuda.is_available():
        raise StageError("execution.device: cuda, but torch finds no CUDA device; use auto or cpu")
    return setting


def device_name(setting: str) -> str:
    """Name the device that ``execution.device`` means, for an object's record: ``cpu``, or ``cuda`` and the GPU's name.

    Raises ``StageError`` as :func:`device_of`.
    """
    device = device_of(setting)
    return f"{device} {torch.cuda.get_device_name()}" if device == "cuda" else device


@contextmanager
def deterministic(device: torch.device = CPU) -> Iterator[None]:
    """Make the bits computed inside depend on the arguments alone, and keep callers out of each other's way.

    On a CPU each calling thread computes by itself, in one torch thread: more would make the bits depend on their
    number. On CUDA one thread at a time computes, which would otherwise only take another's memory, with deterministic
    convolutions at full precision (no TF32; matrix products are at full precision by default). Either way OpenCV uses
    the calling thread alone. Everything is put back at the end. May be entered inside itself: preparing crops in
    ``deterministic()`` and computing in ``deterministic(cuda)`` lets threads prepare while another computes.
    """
    with _one_opencv_thread():
        if device.type != "cuda":
            with _one_torch_thread():
                yield
        else:
            with (
                _ON_CUDA,
                torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
            ):
                yield


_ON_CUDA = threading.RLock()


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Give the calling thread one torch thread: their number is each thread's own."""
    before = torch.get_num_threads()
    if before != 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if before != 1:
            torch.set_num_threads(before)


class _OpenCvThreads:
    """OpenCV's number of threads, the process's own: 1 from the first caller that enters to the last that leaves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = 1

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._before = cv2.getNumThreads()
                cv2.setNumThreads(1)
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    cv2.setNumThreads(self._before)


_one_opencv_thread = _OpenCvThreads()


def in_precision(device: torch.device, dtype: str) -> torch.autocast:
    """Return a context in which convolutions and products of float32 weights are computed in ``dtype``."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16")


class ForwardPass:
    """Computes layers of batches, as :func:`deterministic` says; safe to call from several threads at once.

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
            if isinstance(module, nn.Linear):  # and whatever comes after it
                module.register_forward_pre_hook(self._in_fc)

    def __call__(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Compute each layer's features, float32 [n, d], of pixels [n, 3, h, w] as the network's input has them.

        Its times (``stopwatch``) are ``conv`` and ``fc``. Channels-last memory is taken as it is, without a copy.
        """
        network = self._network
        with torch.inference_mode(), deterministic(self.device):
            ready = torch.from_numpy(batch).to(self.device, self._dtype, memory_format=torch.channels_last)
            with part("conv", self.device):
                outputs = self._graph(ready)
            return {
                layer: network.finish(layer, outputs[network.node(layer)]).float().cpu().numpy()
                for layer in self._layers
            }

    def feature_dim(self, layer: str) -> int:
        """Return the length d of a layer's feature of a crop."""
        return int(self._network.feature_dim(layer))

    def _in_fc(self, *_: object) -> None:
        """Count the time from here on as the fully connected layers'."""
        switch("fc", self.device)
