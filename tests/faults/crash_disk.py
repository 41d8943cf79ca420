"""What a disk may hold after a loss of power, where only what was fsynced is sure to be there.

The model: an fsync of a file makes its content durable, an fsync of a folder its entries. Anything else since then may
be there or not, each change by itself: a file's content may be as at its last fsync (or empty), cut in half, or new;
each entry of a folder as at its last fsync, or as it is now. No file system is as bad as that in every respect.
"""

import itertools
import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any


@dataclass(eq=False)
class Node:
    """A file (``content``) or a folder (``entries``): as it is, and as it was when last synced."""

    is_dir: bool
    content: bytes = b""
    durable_content: bytes = b""
    entries: dict[str, "Node"] = field(default_factory=dict)
    durable_entries: dict[str, "Node"] = field(default_factory=dict)
    # when it, or a folder above, was last given a name: its content, or the names of all that is in it
    meant: bytes | frozenset[str] | None = None

    def sync(self) -> None:
        """Make content or entries durable."""
        self.durable_content, self.durable_entries = self.content, dict(self.entries)

    def name(self) -> None:
        """Take what is here as what was meant."""
        self.meant = frozenset(self.entries) if self.is_dir else self.content
        for node in self.entries.values():
            node.name()


State = dict[str, tuple[Node, bytes]]  # by path; the content is b"" for a folder


class Disk:
    """A folder's tree, all of it durable at first, to which recorded calls are applied."""

    def __init__(self, folder: Path) -> None:
        self._prefix = f"{folder.resolve()}/"
        self.root = _load(folder)
        self.root.name()

    def apply(self, call: str, paths: list[str], data: bytes) -> None:
        """Do one recorded call; one that must have failed (the record is made before the call) does nothing."""
        getattr(self, f"_{call}")(*paths, **({"data": data} if call == "write" else {}))

    def files(self) -> dict[str, bytes]:
        """Content by path, as it is now."""
        state: State = {}
        _fill(self.root, "", {}, state)
        return {path: content for path, (node, content) in state.items() if not node.is_dir}

    def node(self, path: str) -> Node | None:
        node: Node | None = self.root
        for name in PurePosixPath(path.removeprefix(self._prefix)).parts if path + "/" != self._prefix else ():
            node = node.entries.get(name) if node else None
        return node

    def states(self, rng: random.Random, limit: int) -> Iterator[State]:
        """What may be left if the power went now: every combination, or ``limit`` drawn at random.

        Nothing and all of what is not durable are always among them, and so, if drawn, is each change alone.
        """
        changes = _changes(self.root)
        if math.prod(n for _, _, n in changes) <= limit:
            choices: Any = itertools.product(*(range(n) for _, _, n in changes))
        else:
            last = [n - 1 for _, _, n in changes]
            alone = [[top * (i == j) for i, top in enumerate(last)] for j in range(len(last))]
            drawn = ([rng.randint(0, top) for top in last] for _ in range(limit))
            choices = itertools.chain(([0] * len(last), last), itertools.islice(_shuffled(alone, rng), limit), drawn)
        for choice in choices:
            chosen = {(node, name): pick for (node, name, _), pick in zip(changes, choice, strict=True)}
            state: State = {}
            _fill(self.root, "", chosen, state)
            yield state

    def _parent(self, path: str) -> tuple[Node, str]:
        parent = self.node(str(Path(path).parent))
        assert parent is not None, path
        return parent, Path(path).name

    def _create(self, path: str) -> None:
        parent, name = self._parent(path)
        if name in parent.entries:
            parent.entries[name].content = b""
        else:
            parent.entries[name] = Node(False)

    def _write(self, path: str, data: bytes) -> None:
        node = self.node(path)
        assert node is not None, path
        node.content += data

    def _fsync(self, path: str) -> None:
        node = self.node(path)
        assert node is not None, path
        node.sync()

    def _mkdir(self, path: str) -> None:
        if self.node(str(Path(path).parent)):
            parent, name = self._parent(path)
            parent.entries.setdefault(name, Node(True))

    def _unlink(self, path: str) -> None:
        if self.node(path):
            parent, name = self._parent(path)
            del parent.entries[name]

    def _rmdir(self, path: str) -> None:
        node = self.node(path)
        if node and not node.entries:
            self._unlink(path)

    def _rename(self, source: str, target: str) -> None:
        node, in_the_way = self.node(source), self.node(target)
        if node is None or (in_the_way and in_the_way.entries):
            return
        (old, old_name), (new, new_name) = self._parent(source), self._parent(target)
        del old.entries[old_name]
        new.entries[new_name] = node
        node.name()


def read_record(path: Path) -> list[tuple[str, list[str], bytes]]:
    """The calls that ``stage_server.py`` wrote down."""
    lines = (json.loads(line) for line in path.read_text().splitlines())
    return [(call, paths, bytes.fromhex(data)) for call, paths, data in lines]


def write_state(state: State, folder: Path) -> None:
    """Make a folder that holds what a state holds."""
    folder.mkdir(parents=True)
    for path, (node, content) in sorted(state.items()):
        if node.is_dir:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)


def _load(folder: Path) -> Node:
    node = Node(True)
    for path in folder.iterdir():
        content = b"" if path.is_dir() else path.read_bytes()
        node.entries[path.name] = _load(path) if path.is_dir() else Node(False, content)
        node.entries[path.name].sync()
    node.sync()
    return node


def _changes(root: Node) -> list[tuple[Node, str, int]]:
    """What is not durable: (folder, name of the entry, 2) and (file, "", 2 or 3 possible contents)."""
    found: list[tuple[Node, str, int]] = []
    seen: set[int] = set()
    todo = [root]
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if not node.is_dir and node.content != node.durable_content:
            found.append((node, "", 3 if len(node.content) > 1 else 2))
        for name in sorted(node.entries.keys() | node.durable_entries.keys()):
            if node.entries.get(name) is not node.durable_entries.get(name):
                found.append((node, name, 2))
        todo += [*node.entries.values(), *node.durable_entries.values()]
    return found


def _fill(node: Node, prefix: str, chosen: dict[tuple[Node, str], int], state: State) -> None:
    for name in sorted(node.entries.keys() | node.durable_entries.keys()):
        now = chosen.get((node, name), 1)
        child = (node.entries if now else node.durable_entries).get(name)
        if child is None:
            continue
        pick = chosen.get((child, ""))
        content = child.content
        if pick == 0:
            content = child.durable_content
        elif pick == 1 and len(content) > 1:
            content = content[: len(content) // 2]
        state[f"{prefix}{name}"] = (child, content)
        if child.is_dir:
            _fill(child, f"{prefix}{name}/", chosen, state)


def _shuffled(values: list[list[int]], rng: random.Random) -> list[list[int]]:
    return rng.sample(values, len(values))
