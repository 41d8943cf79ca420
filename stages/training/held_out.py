"""Which training images nothing is trained on: what a parameter is chosen on that training must not see."""

import hashlib
import math
from collections.abc import Sequence

from manifests import ImageRecord


def held_out(records: Sequence[ImageRecord], fraction: float, seed: int) -> frozenset[int]:
    """Choose a share of the training images, rounded up but never all; returns their ids.

    Each image's place is drawn from the seed and its own bytes, so that another image changes at most one choice.
    """
    count = min(math.ceil(fraction * len(records)), len(records) - 1) if records else 0

    def drawn(record: ImageRecord) -> tuple[bytes, int]:
        return hashlib.sha256(f"{seed} {record.sha256}".encode()).digest(), record.id

    return frozenset(record.id for record in sorted(records, key=drawn)[: max(count, 0)])
