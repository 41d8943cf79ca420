"""Which split an image is in, where the source does not say it in one word."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence


def drawn_split(file_name: str, seed: int, fractions: Mapping[str, float]) -> str:
    """The split of one image by a hash of its name: independent of all other images, so adding one moves none."""
    digest = hashlib.sha256(f"{seed}\0{file_name}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64  # uniform in [0, 1)
    edge = 0.0
    for name, fraction in fractions.items():
        edge += fraction
        if position < edge:
            return name
    return [name for name, fraction in fractions.items() if fraction > 0][-1]  # the sum may fall short by rounding


def most_specific(splits: Sequence[str], image_counts: Counter[str]) -> str:
    """Of the splits one image is in, the one with the fewest images: VOC's ``train`` rather than ``trainval``."""
    return min(splits, key=lambda name: (image_counts[name], name))
