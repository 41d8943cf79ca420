"""Near-duplicates: a picture's descriptor beside the decoding of its JPEG, and the search beside its bare products.

The search is of made-up descriptors, 2,000 in 40,000, whose values do not matter; what VOC 2007 test in all of ILSVRC
2012 train would take (4,952 x 1.35 million images) is that times the number of pairs.
"""

import sys
from collections.abc import Iterator
from statistics import median

import numpy as np

from benchmarks import harness
from benchmarks.harness import Figure, median_ratio, photographs, take_turns
from manifests.images import decode_image
from stages.duplicates.gist import GistForm, gist, warped
from stages.duplicates.nearest import QUERY_BLOCK, REFERENCE_BLOCK, nearest_vectors

PICTURES = 40
QUERIES, REFERENCES = 2_000, 40_000
VOC_TEST, ILSVRC_TRAIN = 4_952, 1_350_000


def descriptor() -> Figure:
    """A descriptor from decoded pixels, beside the decoding."""
    folder = photographs()
    if folder is None:
        sys.exit("no photographs: set RCNN_PHOTOGRAPHS to a folder with instances.json and images/")
    files = [path.read_bytes() for path in sorted((folder / "images").rglob("*.jpg"))[:PICTURES]]
    pictures = [decode_image(data, "picture") for data in files]
    decoding, ours = take_turns(
        lambda: [decode_image(data, "picture") for data in files],
        lambda: [gist(warped(pixels)) for pixels in pictures],
        rounds=7,
    )
    return Figure(
        "GIST of a photograph",
        f"{1000 * median(ours) / len(files):.2f} ms",
        f"decoding its JPEG: {1000 * median(decoding) / len(files):.2f} ms",
        median_ratio(decoding, ours),
        2,
        f"{len(files)} photographs of COCO",
    )


def search() -> Figure:
    """The nearest reference of each query, beside the matrix products alone, in the same blocks."""
    rng, length = np.random.default_rng(0), GistForm().length
    queries, references = (rng.random((n, length), np.float32) for n in (QUERIES, REFERENCES))
    members = np.arange(REFERENCES)
    harness.keep_memory(2**28)

    def products() -> None:
        for start in range(0, REFERENCES, REFERENCE_BLOCK):
            for first in range(0, QUERIES, QUERY_BLOCK):
                queries[first : first + QUERY_BLOCK] @ references[start : start + REFERENCE_BLOCK].T

    bare, ours = take_turns(products, lambda: nearest_vectors(queries, members, references.__getitem__, 1), rounds=5)
    hours = median(ours) * VOC_TEST * ILSVRC_TRAIN / (QUERIES * REFERENCES) / 3600
    return Figure(
        f"nearest of {REFERENCES:,} descriptors for each of {QUERIES:,}",
        f"{median(ours):.2f} s",
        f"the bare matrix products: {median(bare):.2f} s",
        median_ratio(bare, ours),
        1 / 1.2,
        f"{VOC_TEST:,} x {ILSVRC_TRAIN:,} images, extrapolated: {60 * hours:.0f} minutes; 40 MiB beside the "
        f"{VOC_TEST * length * 4 / 1e6:.0f} MB of the former's descriptors",
    )


def figures(device: str) -> Iterator[Figure]:
    """Both figures; the device makes no difference."""
    yield descriptor()
    yield search()


if __name__ == "__main__":
    harness.main(figures)
