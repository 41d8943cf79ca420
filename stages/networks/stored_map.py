"""A feature map as the store holds it: whoever computes one rounds it here, so that stored and fresh ones are equal."""

import numpy as np
import torch
from torch import Tensor

from cache.errors import StageError


def stored_map(fmap: Tensor, storage: str, image: str) -> Tensor:
    """Round a map of any shape to the precision in which maps are stored (``maps.storage``), on its device.

    ``StageError`` naming the image where a value is not a number, or does not fit.
    """
    stored = fmap.to(torch.float16 if storage == "float16" else torch.float32)
    if not bool(torch.isfinite(stored).all()):
        largest = float(fmap.abs().max())
        why = (
            f"its feature map reaches {largest:g}, which does not fit float16 (largest 65504); set maps.storage to "
            "float32"
            if np.isfinite(largest)
            else "its feature map is not a number; network.weights or network.input are wrong: check network.input "
            "(colour order, range, mean) against what the weights expect"
        )
        raise StageError(f"{image}: {why}")
    return stored
