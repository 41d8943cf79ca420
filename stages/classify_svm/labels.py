"""Which classes a picture shows."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from manifests import ImageRecord


def picture_labels(records: Sequence[ImageRecord], n_classes: int) -> NDArray[np.int8]:
    """int8 [n, N]: 1 where the picture shows the class, -1 where it does not, 0 where only difficult objects are of it.

    A picture shows its own class, or those of its objects. As in VOC's classification task, 0 counts for nothing.
    """
    labels = np.full((len(records), n_classes), -1, np.int8)
    for row, record in zip(labels, records, strict=True):
        if record.category is not None:
            row[record.category] = 1
        row[record.labels[record.difficult]] = 0
        row[record.labels[~record.difficult]] = 1
    return labels
