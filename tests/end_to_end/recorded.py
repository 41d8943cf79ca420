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

asked: dict[str, dict[str, set[str]]] = defaultdict(lambda: {"input": set(), "settings": set(), "open": set()})
current: list[str] = []


def record(name: str) -> None:
    method = getattr(context.RunContext, name)

    def recording(self: Any, what: str) -> Any:
        asked[self._stage.name][name].add(what)
        return method(self, what)

    setattr(context.RunContext, name, recording)


def remember_stage() -> None:
    method = context.RunContext.__init__

    def starting(self: Any, stage: Any, *rest: Any) -> None:
        current[:] = [stage.name]
        method(self, stage, *rest)

    context.RunContext.__init__ = starting  # type: ignore[method-assign]


def on_event(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and current and isinstance(arguments[0], str | os.PathLike):
        asked[current[0]]["open"].add(str(Path(arguments[0]).absolute()))


record("input")
record("settings")
remember_stage()
sys.addaudithook(on_event)
target = Path(sys.argv.pop(1))
try:
    main()
finally:
    current.clear()
    target.write_text(json.dumps({s: {k: sorted(v) for k, v in kinds.items()} for s, kinds in asked.items()}))
