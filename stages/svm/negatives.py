"""The cached negatives of all classes, each region stored once, within a memory budget."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.common.models import Classifier

from .solver import NODE, node_count


@dataclass
class _Block:
    """Negatives of one image. rows int64 [k] ascending; features [k, d]; nodes int64 [k]; member bool [k, N]."""

    image_id: int
    rows: NDArray[np.int64]
    features: NDArray[Any]
    nodes: NDArray[np.int64]
    member: NDArray[np.bool_]


class NegativePool:
    """Negatives keyed by (image, row); a row that several classes hold is stored once, as the features came in.

    Rows keep the order in which they came (images in order, rows ascending), which the solver's result depends on.
    """

    def __init__(self, n_classes: int) -> None:
        self._blocks: dict[int, _Block] = {}
        self._n_classes = n_classes

    def counts(self) -> NDArray[np.int64]:
        """int64 [N]: how many negatives each class holds."""
        counts = np.zeros(self._n_classes, np.int64)
        for block in self._blocks.values():
            counts += block.member.sum(axis=0)
        return counts

    def n_bytes(self) -> int:
        """Bytes of the stored rows, plus liblinear's copy (16 bytes per non-zero) for the class that needs most."""
        return sum(block.features.nbytes for block in self._blocks.values()) + self._solver_bytes()

    def _solver_bytes(self) -> int:
        nodes = np.zeros(self._n_classes, np.int64)
        for block in self._blocks.values():
            nodes += block.nodes @ block.member
        return int(nodes.max(initial=0)) * NODE.itemsize

    def add(self, image_id: int, features: NDArray[Any], wanted: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Cache rows of one image: features [n, d], wanted bool [n, N]; returns int64 [N], how many were new.

        What a class already holds is not added again.
        """
        member = wanted.copy()
        held = self._blocks.get(image_id)
        if held is not None:
            member[held.rows] |= held.member
        rows = np.flatnonzero(member.any(axis=1))
        before = held.member.sum(axis=0) if held is not None else 0
        if len(rows) and (held is None or not np.isin(rows, held.rows, assume_unique=True).all()):
            kept = features[rows]
            self._blocks[image_id] = _Block(image_id, rows, kept, node_count(kept), member[rows])
        elif held is not None:
            held.member = member[held.rows]
        return np.asarray(member.sum(axis=0) - before, np.int64)

    def features(self, class_index: int) -> list[NDArray[Any]]:
        """The rows a class holds, as blocks [k, d] in order."""
        return [b.features[b.member[:, class_index]] for b in self._blocks.values() if b.member[:, class_index].any()]

    def drop(self, class_index: int, easy: NDArray[np.bool_]) -> None:
        """Let a class forget some of its rows: ``easy`` bool [count], in the order of :meth:`features`."""
        begin = 0
        for block in self._blocks.values():
            held = np.flatnonzero(block.member[:, class_index])
            block.member[held[easy[begin : begin + len(held)]], class_index] = False
            begin += len(held)
        self._release()

    def shrink(self, limit_bytes: int, model: Classifier) -> NDArray[np.int64]:
        """Forget the easiest (row, class) pairs, by the current scores, until a tenth of the limit is free.

        Does nothing while the pool is within its limit. Returns int64 [N], how many negatives each class lost.
        """
        lost = np.zeros(self._n_classes, np.int64)
        if self.n_bytes() <= limit_bytes:
            return lost
        self._release(at_once=True)
        blocks = list(self._blocks.values())
        pairs = np.concatenate([_pairs(i, block, model.scores(block.features)) for i, block in enumerate(blocks)])
        pairs = pairs[np.argsort(pairs["score"], kind="stable")]
        for batch in np.array_split(pairs, min(len(pairs), 50)):
            if _held_bytes(blocks) + self._solver_bytes() <= 0.9 * limit_bytes:
                break
            for i in np.unique(batch["block"]):
                chosen = batch[batch["block"] == i]
                blocks[i].member[chosen["row"], chosen["class"]] = False
            lost += np.bincount(batch["class"], minlength=self._n_classes)
        self._release(at_once=True)
        return lost

    def _release(self, at_once: bool = False) -> None:
        """Free rows that no class holds; by default only where they are a quarter of a block, since it costs a copy."""
        for block in list(self._blocks.values()):
            alive = np.asarray(block.member.any(axis=1))
            dead = len(alive) - int(alive.sum())
            if dead == len(alive):
                del self._blocks[block.image_id]
            elif dead and (at_once or 4 * dead >= len(alive)):
                block.rows, block.nodes = block.rows[alive], block.nodes[alive]
                block.features, block.member = block.features[alive], block.member[alive]


_PAIR = np.dtype([("score", np.float32), ("block", np.int64), ("row", np.int64), ("class", np.int64)])


def _pairs(index: int, block: _Block, scores: NDArray[np.float32]) -> NDArray[Any]:
    row, cls = np.nonzero(block.member)
    pairs = np.empty(len(row), _PAIR)
    pairs["score"], pairs["block"], pairs["row"], pairs["class"] = scores[row, cls], index, row, cls
    return pairs


def _held_bytes(blocks: list[_Block]) -> int:
    """Bytes of the rows that some class still holds."""
    return sum(int(b.member.any(axis=1).sum()) * b.features[:1].nbytes for b in blocks)
