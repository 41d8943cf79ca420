"""``rcnn`` with a record of what each stage asked its context for and which of the project's files Python opened.

    python recorded.py RECORD.json ARGUMENTS...

Files that a library opens in its own code (HDF5, safetensors) are not seen by the interpreter; those are asked of the
context.
"""

import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from pipeline import context
from pipeline.cli import main

KINDS = ("input", "settings", "seed", "open")
asked: dict[str, dict[str, set[str]]] = defaultdict(lambda: {kind: set() for kind in KINDS})
current: list[str] = []


def record(name: str) -> None:
    method = getattr(context.RunContext, name)

    def recording(self: Any, what: Any) -> Any:
        asked[self.node.name][name].add(what if isinstance(what, str) else what.__name__)
        return method(self, what)

    setattr(context.RunContext, name, recording)


def record_seed() -> None:
    real = context.RunContext.seed

    def recording(self: Any) -> int:
        asked[self.node.name]["seed"].add("seed")
        seed: int = real.__get__(self)
        return seed

    context.RunContext.seed = property(recording)  # type: ignore[method-assign,assignment]


def remember_stage() -> None:
    method = context.RunContext.__init__

    def starting(self: Any, node: Any, *rest: Any) -> None:
        current[:] = [node.name]
        method(self, node, *rest)

    context.RunContext.__init__ = starting  # type: ignore[method-assign,assignment]


def on_event(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and current and isinstance(arguments[0], str | os.PathLike):
        asked[current[0]]["open"].add(str(Path(arguments[0]).absolute()))


record("input")
record("settings")
record_seed()
remember_stage()
sys.addaudithook(on_event)
target = Path(sys.argv.pop(1))
try:
    main()
finally:
    current.clear()
    target.write_text(json.dumps({s: {k: sorted(v) for k, v in kinds.items()} for s, kinds in asked.items()}))
