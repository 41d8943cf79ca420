"""Which device torch computes on."""

from .errors import StageError


def device_of(setting: str) -> str:
    """The torch device that ``execution.device`` means: ``auto`` is cuda where there is one.

    Raises ``StageError`` for ``cuda`` on a machine without.
    """
    import torch

    if setting == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if setting == "cuda" and not torch.cuda.is_available():
        raise StageError("execution.device: cuda, but torch finds no CUDA device; use auto or cpu")
    return setting
