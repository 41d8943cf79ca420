"""Regions, ranked by their best class's score, pasted into a map of classes (O2P's rule).

Of an image the k-th best of at most ``max_segments`` regions is pasted if its score is above ``threshold + per_rank
(k - 1)``, the better over the worse. Scores fall and thresholds rise, so that the pasted regions are the first ones.
Ours is that a region takes no place which is nearly a better one (``duplicate_iou``): of selective search's thousand
the best dozen tend to be one object.

The background may be ranked among the classes, as one after the last: a region that is the background's takes a place
of the ``max_segments``, and is then dropped, before the k-th is counted (the order of O2P's
``nms_inference_simplicity_bias.m``). O2P's background scores the threshold in every region, so that none of its regions
comes before one that may be pasted: as if it were not ranked. With ``paste.background`` (ours) a regressor scores it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .settings import PasteSettings


@dataclass(frozen=True)
class Ranked:
    """An image's regions, best first: which proposals, of which class each is, and its score.

    ``regions`` and ``labels`` int64 [n]; ``scores`` float32 [n], falling.
    """

    regions: NDArray[np.int64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> "Ranked":
        """Take the arrays of an image's object of stage ``paste``."""
        return cls(arrays["regions"], arrays["labels"], arrays["scores"])

    def first(self, count: int | None) -> "Ranked":
        """The best ``count`` of them; None: all."""
        return Ranked(self.regions[:count], self.labels[:count], self.scores[:count])

    def of_classes(self, n_classes: int) -> "Ranked":
        """Those that are of a class, and not the background's."""
        kept = self.labels < n_classes
        return Ranked(self.regions[kept], self.labels[kept], self.scores[kept])

    def among(self, regions: NDArray[np.int64]) -> "Ranked":
        """The same where ``regions``, int64, are the proposals that were ranked."""
        return Ranked(regions[self.regions], self.labels, self.scores)


def ranked(scores: NDArray[np.float32]) -> Ranked:
    """Rank regions by the best of their scores, float32 [n, N]; of equal ones the first region and class win."""
    labels = scores.argmax(axis=1).astype(np.int64)
    best = scores[np.arange(len(scores)), labels]
    order = np.argsort(-best, kind="stable")
    return Ranked(order.astype(np.int64), labels[order], best[order])


def distinct(
    order: Ranked,
    least: float,
    settings: PasteSettings,
    mask: Callable[[int], NDArray[np.bool_]],
    known: tuple[float, int] | None = None,
) -> Ranked:
    """Keep the regions of an image that may be pasted: at most ``max_segments`` that score above ``least``.

    Best first, each that has no mask IoU above ``duplicate_iou`` with one kept before. What is kept of a lower
    ``least`` begins with what is kept of a higher one.

    Args:
        order: the image's regions.
        least: the lowest threshold that there can be.
        settings: the rule.
        mask: draws a proposal.
        known: the threshold and the number of classes, where they are known already: no region is drawn after the
            first that is not above the threshold of its rank, so that what :func:`pasted` takes is the same.
    """
    may = order.first(int((order.scores > least).sum()))
    if settings.duplicate_iou is None:
        return may.first(settings.max_segments)
    kept: list[int] = []
    rank = 0  # of the regions that are not the background's
    drawn: list[tuple[NDArray[np.bool_], int]] = []
    for place, region in enumerate(may.regions.tolist()):
        if len(kept) == settings.max_segments:
            break
        if known is not None and not _above(may.scores[place : place + 1], known[0], settings, rank).all():
            break
        own = mask(region)
        area = int(np.count_nonzero(own))
        shared = [(int(np.count_nonzero(own & other)), of_other) for other, of_other in drawn]
        if all(both <= settings.duplicate_iou * (area + of_other - both) for both, of_other in shared):
            kept.append(place)
            rank += known is not None and bool(may.labels[place] < known[1])
            drawn.append((own, area))
    places = np.array(kept, np.int64)
    return Ranked(may.regions[places], may.labels[places], may.scores[places])


def pasted_count(scores: NDArray[np.float32], threshold: float, settings: PasteSettings) -> int:
    """Count the regions of an image that are above the threshold of their rank; ``scores`` float32 [n] fall."""
    few = scores[: settings.max_segments]
    above = _above(few, threshold, settings)
    return len(few) if above.all() else int(above.argmin())


def _above(
    scores: NDArray[np.float32], threshold: float, settings: PasteSettings, first_rank: int = 0
) -> NDArray[np.bool_]:
    """Whether each of the scores, of successive ranks, is above the threshold of its rank."""
    ranks = first_rank + np.arange(len(scores))
    above: NDArray[np.bool_] = scores.astype(np.float64) > threshold + settings.per_rank * ranks
    return above


def pasted(order: Ranked, threshold: float, settings: PasteSettings, n_classes: int) -> Ranked:
    """Take the regions of an image that are pasted: those above the threshold but for the background's."""
    of_classes = order.first(settings.max_segments).of_classes(n_classes)
    return of_classes.first(pasted_count(of_classes.scores, threshold, settings))


def paste(regions: Ranked, mask: Callable[[int], NDArray[np.bool_]], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Draw a map of classes, the best region last: uint8 ``shape``, 0 background, c + 1 class c.

    ``mask`` draws a proposal, bool ``shape``.
    """
    drawn = np.zeros(shape, np.uint8)
    for region, label in zip(regions.regions[::-1].tolist(), regions.labels[::-1].tolist(), strict=True):
        drawn[mask(region)] = label + 1
    return drawn


@dataclass(frozen=True)
class Threshold:
    """The threshold that is used, and how it was come to.

    ``goal`` is how many regions per image were wanted on the ``images`` that it was found on, and ``found`` how many
    there are; None where it was given.
    """

    value: float
    goal: float | None = None
    found: float | None = None
    images: int = 0


def risen(images: Sequence[Ranked], goal: float, settings: PasteSettings, n_classes: int) -> Threshold:
    """Let the threshold rise until the images have at most ``goal`` pasted regions each, on average."""
    for step in count():  # until it is above every score at the latest
        threshold = round(settings.first + step * settings.rise, 10)  # multiples, so that no rounding adds up
        found = sum(len(pasted(one, threshold, settings, n_classes).regions) for one in images) / max(len(images), 1)
        if found <= goal:
            break
    return Threshold(threshold, goal, found, len(images))
