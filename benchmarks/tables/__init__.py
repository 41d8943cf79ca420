"""The papers' tables and figures that :mod:`benchmarks.grids` runs: one file a paper, which declares and runs none."""

from collections.abc import Mapping

from .faster import FASTER
from .grid import Grid
from .spp import TABLE6

GRIDS: Mapping[str, Grid] = {grid.name: grid for grid in (TABLE6, *FASTER)}

__all__ = ["GRIDS"]
