"""Networks: a wrapper with named layers, and the architectures the detector can use."""

from .architectures import ARCHITECTURES, InputSpec
from .network import Network, build
from .settings import InputSettings, NetworkSettings

__all__ = ["ARCHITECTURES", "InputSettings", "InputSpec", "Network", "NetworkSettings", "build"]
