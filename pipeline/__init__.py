"""How it runs: parameters, the stage graph, executors, progress, the command line, and the trained ``Detector``."""

from typing import Any

__all__ = ["Detector"]


def __getattr__(name: str) -> Any:
    # Loading the detector imports torch; the command line must start without it.
    if name == "Detector":
        from stages.detections.detector import Detector

        return Detector
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
