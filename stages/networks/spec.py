"""A network's input convention. Imports nothing heavy."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Triple = tuple[float, float, float]
MAX_SIDE_PX = 1024


@dataclass(frozen=True)
class InputSpec:
    """A network's input: crops of ``side_px`` squared, channels in ``color_order``, white = ``value_range``.

    ``mean`` is subtracted and then ``std`` divided by, both in that colour order and range. Pixels outside the image
    are 0 after that, which is the mean.
    """

    side_px: int
    color_order: Literal["rgb", "bgr"] = "rgb"
    value_range: float = 255.0
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON, for keys and file metadata."""
        return {
            "side_px": self.side_px,
            "color_order": self.color_order,
            "value_range": float(self.value_range),
            "mean": [float(v) for v in self.mean],
            "std": [float(v) for v in self.std],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "InputSpec":
        """Invert :meth:`as_json`; ``KeyError``, ``TypeError`` or ``ValueError`` for anything else."""
        if value["color_order"] not in ("rgb", "bgr"):
            raise ValueError(f"color_order {value['color_order']!r}")
        mean, std = (tuple(float(v) for v in value[k]) for k in ("mean", "std"))
        if len(mean) != 3 or len(std) != 3:
            raise ValueError("mean and std need three values each")
        side, white = int(value["side_px"]), float(value["value_range"])
        if not 1 <= side <= MAX_SIDE_PX:
            raise ValueError(f"side_px {side}")
        if not all(map(math.isfinite, (white, *mean, *std))) or not all((white, *std)):
            raise ValueError("value_range, mean and std must be finite, and white and std not 0")
        return cls(side, value["color_order"], white, mean, std)
