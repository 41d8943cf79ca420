"""Networks: a wrapper with named layers, and the architectures the detector can use.

``NetworkSettings`` and ``InputSpec`` are light; the others bring torch, which is imported at their first use, because
the command line reads the settings of every stage.
"""

from typing import TYPE_CHECKING, Any

from .settings import InputSettings, NetworkSettings
from .spec import InputSpec

if TYPE_CHECKING:
    from .architectures import ARCHITECTURES
    from .network import Network, add_fc_head, build

__all__ = ["ARCHITECTURES", "InputSettings", "InputSpec", "Network", "NetworkSettings", "add_fc_head", "build"]


def __getattr__(name: str) -> Any:
    if name == "ARCHITECTURES":
        from . import architectures

        return architectures.ARCHITECTURES
    if name in ("Network", "add_fc_head", "build"):
        from . import network

        return getattr(network, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
