"""Whether the authors' limits, made for VOC's two or three objects per image, fit a dataset."""

from collections.abc import Iterator, Sequence

import numpy as np

from manifests import ImageRecord

from .settings import DetectSettings

REGIONS_PER_OBJECT = 10  # an object is surrounded by about so many regions that score nearly alike


def crowded_classes(images: Sequence[ImageRecord], classes: Sequence[str], settings: DetectSettings) -> Iterator[str]:
    """One line per class with so many objects per image that the limits before suppression cut some off.

    The limits count regions, not objects: [M] on bccd (11 red cells per image, all alike) ``rank_factor`` 40 leaves an
    AP of 54 of the 76 that 400 gives.
    """
    limit = min(settings.max_per_class, settings.rank_factor)
    for j, name in enumerate(classes):
        counts = np.array([np.count_nonzero(image.labels[~image.crowd] == j) for image in images])
        mean = float(counts[counts > 0].mean()) if counts.any() else 0.0
        if mean * REGIONS_PER_OBJECT > limit:
            yield (
                f"class {name!r} has {mean:.3g} objects in an image of it, and detect.max_per_class = "
                f"{settings.max_per_class} and detect.rank_factor = {settings.rank_factor} count regions before "
                f"suppression, many per object: if objects are missed, raise both to about "
                f"{4 * mean * REGIONS_PER_OBJECT:.0f}"
            )
