"""Stages of the tests' own: a node that runs a function of the test."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stages.contract import Context, Node, Stage


@dataclass(frozen=True)
class ToyStage(Stage):
    """A stage whose ``function`` is given, not named."""

    function: Callable[[Context], None] = lambda ctx: None

    def load(self) -> Callable[[Context], None]:
        return self.function


def toy_node(
    name: str,
    function: Callable[[Context], None] = lambda ctx: None,
    *,
    inputs: Mapping[str, str] | None = None,
    outputs: Mapping[str, str] | None = None,
    **declared: Any,
) -> Node:
    """A node with these paths; ``declared`` is what else its stage declares."""
    stage = ToyStage(name, 1, "", inputs=inputs or {}, outputs=outputs or {}, function=function, **declared)
    return Node(name, stage, stage.inputs, stage.outputs)
