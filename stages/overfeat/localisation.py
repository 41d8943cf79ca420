"""The localisation task of ILSVRC (OverFeat section 4.4, Figure 9): in an image of one class, that class and a box.

An image has a few guesses, each a class and one box. One is right where the class is the image's and the box overlaps
one of its objects. Objects marked difficult, and crowd regions, are none: neither do they say what the image shows, nor
is a box on one of them right (ours; ILSVRC has neither).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from manifests import ImageRecord
from stages.boxes.geometry import Boxes, clip, iou
from stages.detections.suppression import BoxSet

from .combining import combined, entering
from .settings import MergeSettings
from .windows import EVERY_CLASS, ScoredWindows

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Guesses:
    """What an image is said to show, best first: classes int64 [g], each once, and one box float32 [g, 4] of each."""

    labels: Ints
    boxes: Boxes


@dataclass(frozen=True)
class Target:
    """What an image shows: its one class, and the boxes [m, 4] of its objects."""

    label: int
    boxes: Boxes


def target_of(record: ImageRecord) -> Target | None:
    """Return what an image shows; None where its objects are of several classes, or there are none."""
    counted = ~(record.difficult | record.crowd)
    labels = np.unique(record.labels[counted])
    return Target(int(labels[0]), record.boxes[counted]) if len(labels) == 1 else None


def centre_guesses(windows: ScoredWindows, width: int, height: int, *, regressed: bool) -> Guesses:
    """Guess by the window nearest to the image's centre at the smallest scale: the paper's "single centered crop".

    Classes come by its probabilities, of equal ones the first class. The box is the window or, ``regressed``, where its
    regressor puts the object; of regressors by class only those classes are guessed that were asked.
    """
    smallest = np.flatnonzero(windows.scale == windows.scale.min())
    corners = windows.windows[smallest].astype(np.float64)
    apart = (corners[:, :2] + corners[:, 2:]) / 2 - np.array([width, height]) / 2
    row = smallest[np.argmin((apart**2).sum(axis=1))]
    order = np.argsort(-windows.scores[row], kind="stable")
    boxes = np.broadcast_to(windows.windows[row], (len(order), 4))
    if regressed:
        asked = windows.edge_classes[row]
        matches = (asked == order[:, None]) | (asked == EVERY_CLASS)
        order, matches = order[matches.any(axis=1)], matches[matches.any(axis=1)]
        boxes = windows.edges[row, matches.argmax(axis=1)]
    return Guesses(order, clip(boxes, width, height))


def merged_guesses(found: BoxSet) -> Guesses:
    """Guess the classes in the order of their best boxes' scores, each with that box; of equal ones the first class."""
    labels, first = np.unique(found.labels, return_index=True)  # by class and then best first
    order = np.argsort(-found.scores[first], kind="stable")
    return Guesses(labels[order], found.boxes[first[order]])


def fewer_classes(settings: MergeSettings, k: int | None) -> MergeSettings:
    """Let the boxes of at most ``k`` classes of each scale merge; None: of as many as ``settings`` say."""
    given = [count for count in (settings.k, k) if count is not None]
    return settings.model_copy(update={"k": min(given, default=None)})


def all_guesses(
    windows: ScoredWindows,
    first_scales: Sequence[int],
    settings: MergeSettings,
    width: int,
    height: int,
) -> dict[str, Guesses]:
    """Guess in every way that the report has a row of, by its name.

    Args:
        first_scales: of how many of the smallest scales boxes merge, beside all of them; all where there are fewer.
        settings: how they merge.
        width, height: the image's, px.
    """
    scales = np.unique(windows.scale)
    found = {
        "centre_window": centre_guesses(windows, width, height, regressed=False),
        "centre_regressed": centre_guesses(windows, width, height, regressed=True),
    }
    for name, count in [*((f"merged_{count}", count) for count in first_scales), ("merged", len(scales))]:
        those = np.isin(windows.scale, scales[:count])
        few = ScoredWindows(**{array: values[those] for array, values in windows.arrays().items()})
        found[name] = merged_guesses(combined(entering(few, settings, width, height), settings).bbox)
    return found


@dataclass
class LocalisationErrors:
    """Counts the errors of one way to guess over images."""

    iou: float
    places: list[int] = field(default_factory=list)  # of the right class among the guesses; -1: it is none of them
    right: list[bool] = field(default_factory=list)  # whether its box is

    def add(self, guesses: Guesses, target: Target) -> None:
        """Count an image."""
        (at,) = np.nonzero(guesses.labels == target.label)
        self.places.append(int(at[0]) if len(at) else -1)
        self.right.append(bool((iou(guesses.boxes[at], target.boxes) >= self.iou).any()))

    def rates(self, limit: int, n_classes: int) -> dict[str, int | float | None]:
        """Return how many images there are, and the error rates in percent.

        ``top1_error`` and ``topn_error`` with one guess and with ``limit`` guesses, ``class_error`` and
        ``class_topn_error`` by the class alone. None where there are no images, and with ``limit`` guesses where there
        are no more classes than that, which could all be guessed.
        """
        any_box, several = [True] * len(self.right), limit < n_classes
        return {
            "images": len(self.places),
            "top1_error": self._rate(1, self.right),
            "topn_error": self._rate(limit, self.right) if several else None,
            "class_error": self._rate(1, any_box),
            "class_topn_error": self._rate(limit, any_box) if several else None,
        }

    def _rate(self, guesses: int, right: Sequence[bool]) -> float | None:
        if not self.places:
            return None
        wrong = sum(not (0 <= place < guesses and own) for place, own in zip(self.places, right, strict=True))
        return 100 * wrong / len(self.places)
