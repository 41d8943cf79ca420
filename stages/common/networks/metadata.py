"""What a weights file says of its network, beside the tensors: enough to build it again."""

import json
from collections.abc import Mapping

from .network import Network, build
from .settings import MAX_FC, MAX_LEVEL, MAX_LEVELS
from .spec import InputSpec

_MAX_GRID = 32
MAX_OUTPUTS = 1_000_000


def metadata(network: Network) -> dict[str, str]:
    """Architecture, outputs, pool5's form and the input convention, as strings."""
    meta = {
        "architecture": network.name,
        "n_outputs": str(network.n_outputs),
        "pool5_grid": json.dumps(network.pool5_grid),
        "input": json.dumps(network.input.as_json(), sort_keys=True),
        "rectified": json.dumps(network.rectified),
    }
    if network.pyramid is not None:
        meta["pyramid"] = json.dumps(network.pyramid)
    if network.fc is not None:
        meta["fc"] = json.dumps(network.fc)
    return meta


def network_of(meta: Mapping[str, str]) -> Network:
    """Inverse of :func:`metadata`, without weights (device ``meta``).

    Raises ``KeyError``, ``TypeError``, ``ValueError`` or ``RecursionError`` for damaged metadata, and ``StageError``
    for an architecture that there is not.
    """
    spec = InputSpec.from_json(json.loads(meta["input"]))
    grid, n_outputs = json.loads(meta["pool5_grid"]), int(meta["n_outputs"])
    name, pyramid, fc = meta["architecture"], *(json.loads(meta.get(key, "null")) for key in ("pyramid", "fc"))
    _check(grid, n_outputs, pyramid, fc)
    network = build(name, n_outputs, pool5_grid=grid, pyramid=pyramid, fc=fc, spec=spec, device="meta")
    if meta.get("rectified") == "false":
        network.drop_rectifier()
    return network


def _check(grid: object, n_outputs: int, pyramid: object, fc: object) -> None:
    """ValueError for figures that no network has, since memory is taken for them before a tensor is looked at."""
    if grid is not None and (type(grid) is not int or not 1 <= grid <= _MAX_GRID):
        raise ValueError(f"pool5_grid {grid!r}")
    if not 1 <= n_outputs <= MAX_OUTPUTS:
        raise ValueError(f"n_outputs {n_outputs}")
    if pyramid is not None and not _are_numbers(pyramid, 1, MAX_LEVELS, MAX_LEVEL):
        raise ValueError(f"pyramid {str(pyramid)[:80]!r}")
    if fc is not None and (pyramid is None or not _are_numbers(fc, 2, 2, MAX_FC)):
        raise ValueError(f"fc {str(fc)[:80]!r}")


def _are_numbers(value: object, fewest: int, most: int, largest: int) -> bool:
    """Whether it is a list of ``fewest`` to ``most`` integers from 1 to ``largest``."""
    if not isinstance(value, list) or not fewest <= len(value) <= most:
        return False
    return all(type(number) is int and 1 <= number <= largest for number in value)
