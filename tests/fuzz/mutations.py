"""Hostile inputs out of valid ones: bytes flipped, cut and spliced, or a field replaced where the form is known."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Any

MAX_BYTES = 1 << 16
_MAX_PLACES = 10_000  # of one document; YAML's aliases make billions out of a few lines

# Values that a field may not have, or that a reader may trust too far.
HOSTILE: tuple[Any, ...] = (
    None,
    True,
    "",
    [],
    {},
    [[]],
    0,
    -1,
    2**31,
    2**53,
    2**63,
    10**18,
    10**400,
    0.5,
    1e308,
    -0.0,
    float("nan"),
    float("inf"),
    "x" * 5000,
    "../../../outside/secret",
    "/etc/hostname",
    "a\0b",
    "..\\..\\x",
    "C:\\x",
    "\ud800",
    "\u202e",
    "NaN",
    "1e999",
    "object",
    "<f2",
    "O",
    "(1000000000,)f8",
    [10**9, 10**9],
    [-1, 4],
    [0] * 40,
    {"__class__": "os.system"},
)
BINARY_INTS = tuple(
    value.to_bytes(size, order, signed=value < 0)
    for size in (2, 4, 8)
    for value in (0, 1, 2 ** (8 * size - 1) - 1, -1, 2 ** (8 * size - 2))
    for order in ("little", "big")
)


@dataclass(frozen=True)
class Tree:
    """How a form's fields are reached: ``parse`` to lists and dicts (ValueError if it is no such), ``build`` back."""

    parse: Callable[[bytes], Any]
    build: Callable[[Any], bytes]


JSON = Tree(json.loads, lambda tree: json.dumps(tree).encode())


def mutate(data: bytes, seeds: Sequence[bytes], tokens: Sequence[bytes], tree: Tree | None, random: Random) -> bytes:
    """One to four mutations of ``data``, of at most ``MAX_BYTES``."""
    for _ in range(random.randint(1, 4)):
        mutated = _field_replaced(data, tree, random) if tree and random.random() < 0.6 else None
        data = _bytes_mutated(data, seeds, tokens, random) if mutated is None else mutated
    return data[:MAX_BYTES]


def _field_replaced(data: bytes, tree: Tree | None, random: Random) -> bytes | None:
    """A field removed, doubled or given a hostile value; None where the data is not of the form."""
    assert tree is not None
    try:
        document = tree.parse(data)
        places = list(islice(_places(document), _MAX_PLACES))
        if not places:
            return tree.build(random.choice(HOSTILE))
        holder, key = random.choice(places)
        action = random.randrange(6)
        if action == 0:
            del holder[key]
        elif action == 1 and isinstance(holder, dict):
            holder[str(random.choice(HOSTILE))] = holder[key]
        elif action == 2:
            other, name = random.choice(places)
            holder[key] = other[name] if other is not holder[key] else None
        else:
            holder[key] = random.choice(HOSTILE)
        return tree.build(document)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def _places(value: Any, depth: int = 0) -> Any:
    """(container, key) of every field."""
    if depth > 20:
        return
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key], depth + 1)


def _bytes_mutated(data: bytes, seeds: Sequence[bytes], tokens: Sequence[bytes], random: Random) -> bytes:
    at = random.randint(0, len(data))
    end = min(len(data), at + random.choice((0, 1, 2, 4, 8, 64)))
    if (action := random.randrange(7)) == 0:
        return data[:at]
    if action == 1:
        other = random.choice(seeds)
        return data[:at] + other[random.randint(0, len(other)) :]
    if action == 2 and data:
        end = at + 1
        new = bytes([data[at % len(data)] ^ 1 << random.randrange(8)])
    elif action == 3:
        new = random.choice(BINARY_INTS)
    elif action == 4 and tokens:
        new = random.choice(tokens)
    elif action == 5:
        new = data[at:end] * random.choice((2, 3, 50))
    else:
        new = bytes(random.randrange(256) for _ in range(random.choice((1, 2, 8))))
    return data[:at] + new + data[end:]
