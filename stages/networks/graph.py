"""The part of a network that some of its inner nodes need, as a torch.fx graph."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from .caffenet import CrossChannelNorm
from .pyramid import PyramidPool
from .zf5 import WithinChannelNorm

_TRACER = {"leaf_modules": [CrossChannelNorm, WithinChannelNorm, PyramidPool]}  # one node, as torch's own layers are
_Form = tuple[type[nn.Module], str]  # of a network: its class, and its layers with all that torch prints of them
# What tracing found, which takes half a second: networks of one form are traced once.
_NAMES: dict[_Form, list[str]] = {}
_GRAPHS: dict[tuple[_Form, tuple[str, ...]], fx.Graph] = {}


def _form(trunk: nn.Module) -> _Form:
    return type(trunk), repr(trunk)


def node_names(trunk: nn.Module) -> list[str]:
    """Name all nodes in evaluation mode, in order, as torchvision's feature extraction gives them."""
    form = _form(trunk)
    if form not in _NAMES:
        names: list[str] = get_graph_node_names(trunk, tracer_kwargs=_TRACER, suppress_diff_warning=True)[1]
        _NAMES[form] = names[1:]  # the first is the input
    return _NAMES[form]


def extraction_graph(trunk: nn.Module, nodes: Sequence[str]) -> fx.GraphModule:
    """Make a module from the input to a dict of the nodes' outputs; it shares ``trunk``'s weights and skips the rest.

    An in-place ReLU after a wanted node would overwrite what that node returned, so such a node's output is copied.
    """
    part = (_form(trunk), tuple(nodes))
    with evaluating(trunk):
        if part not in _GRAPHS:
            _GRAPHS[part] = _traced(trunk, nodes)
        return fx.GraphModule(trunk, copy.deepcopy(_GRAPHS[part])).eval()


@contextmanager
def evaluating(trunk: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and each of its layers back into its own at the end."""
    modes = {module: module.training for module in trunk.modules()}
    trunk.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


def _traced(trunk: nn.Module, nodes: Sequence[str]) -> fx.Graph:
    """Trace a network in evaluation mode, as far as the nodes; the graph refers to its layers by their names alone."""
    traced: Any = create_feature_extractor(trunk, list(nodes), tracer_kwargs=_TRACER, suppress_diff_warning=True)
    # a plain graph: torchvision's module changes the mode of the layers it shares whenever it is copied
    graph: fx.Graph = copy.deepcopy(traced.graph)
    output = next(n for n in graph.nodes if n.op == "output")
    for node in list(output.all_input_nodes):
        if any(_overwrites(trunk, user) for user in node.users):
            with graph.inserting_after(node):
                copied = graph.call_method("clone", (node,))
            output.replace_input_with(node, copied)
    return graph


def _overwrites(trunk: nn.Module, user: fx.Node) -> bool:
    """Whether a node works in place, on what it is given."""
    if user.op == "call_module":
        return bool(getattr(trunk.get_submodule(str(user.target)), "inplace", False))
    return bool(user.kwargs.get("inplace", False))


def fc_graph(trunk: nn.Module, nodes: Sequence[str]) -> fx.GraphModule:
    """Make a module from the flattened pool5 [B, d] on to a dict of the nodes' outputs; it shares ``trunk``'s weights.

    Its input is the output of the pyramid, or of the flattening. ``ValueError`` naming a node that comes before it.
    """
    module = extraction_graph(trunk, nodes)
    graph = module.graph
    flat = next((n for n in graph.nodes if n.target is torch.flatten or _is_pyramid(module, n)), None)
    if flat is None:
        raise ValueError(nodes[0])
    with graph.inserting_before(flat):
        pooled = graph.placeholder("pooled")
    flat.replace_all_uses_with(pooled)
    graph.eliminate_dead_code()
    image = next(n for n in graph.nodes if n.op == "placeholder")
    if image.users:
        output = next(n for n in graph.nodes if n.op == "output")
        raise ValueError(next(name for name, n in output.args[0].items() if _before(n, pooled)))
    graph.erase_node(image)
    module.delete_all_unused_submodules()
    module.recompile()
    return module


def _is_pyramid(module: nn.Module, node: fx.Node) -> bool:
    """Whether a node is the spatial pyramid."""
    return node.op == "call_module" and isinstance(module.get_submodule(str(node.target)), PyramidPool)


def _before(node: fx.Node, pooled: fx.Node) -> bool:
    """Whether a node is computed without the pooled vector."""
    return node is not pooled and all(_before(parent, pooled) for parent in node.all_input_nodes)
