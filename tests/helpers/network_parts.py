"""The parts of a network, by the names that its architecture gives them."""

from typing import Any

from stages.networks.network import Network


def trunk_of(network: Network) -> Any:
    """The network's trunk as Any: to torch's types each attribute of a module may be a tensor or a module."""
    return network.trunk
