"""Training of the classifier on windows: what each shows, which are drawn, and which offend (OverFeat section 5)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cache.errors import StageError
from stages.boxes.assignment import assign
from stages.boxes.geometry import in_crowd
from stages.finetune.windows import BACKGROUND, IGNORED
from stages.networks.forward import in_precision
from stages.networks.graph import evaluating
from stages.training.images import ImageSide
from stages.training.loop import TrainingRun, generator

from .classifier import WindowLayers
from .places import Indices
from .pooled_rows import PooledRows
from .settings import FinetuneDenseSettings
from .training_images import WindowImages


@dataclass(frozen=True)
class DrawnWindows:
    """An image's part of a mini-batch, by the windows' numbers.

    ``rows`` int64 [n] are trained on in any case, ``labels`` int64 [n] what they show (0: background); ``pool`` int64
    [k] are background windows, of which the most offending are trained on.
    """

    rows: Indices
    labels: NDArray[np.int64]
    pool: Indices


class WindowLabels:
    """What the windows of training images show, and what is drawn of them; safe to use from several threads."""

    def __init__(self, images: WindowImages, settings: FinetuneDenseSettings, n_classes: int) -> None:
        self.images, self._settings, self._n_classes = images, settings, n_classes

    def labels(self, side: ImageSide) -> NDArray[np.int64]:
        """Label all windows of an image by the object of largest IoU, the first of several (ours).

        A window of IoU ``fg_iou`` and more shows it, if it is one that is trained on; below ``bg_iou`` with every
        object, difficult ones too, a window is background. Left out is whatever lies between, shows a difficult object,
        or lies in a crowd region, as in fine-tuning (:mod:`stages.finetune.windows`).

        Returns:
            int64 [n]: 1 + class, 0 for background, -1 for a window that is left out.
        """
        boxes, objects = self.images.grid(side).boxes, self.images.objects(side)
        if not len(objects.boxes):
            labels = np.full(len(boxes), BACKGROUND, np.int64)
        else:
            found = assign(boxes, objects.boxes)
            shows = (found.overlaps >= self._settings.fg_iou) & objects.counted[found.objects]
            background = found.overlaps < self._settings.bg_iou
            labels = np.where(background, BACKGROUND, IGNORED)
            labels[shows] = objects.labels[found.objects[shows]] + 1
        labels[in_crowd(boxes, objects.crowds)] = IGNORED
        return labels

    def survey(self) -> tuple[list[ImageSide], NDArray[np.int64]]:
        """Return the images with a window to learn from, and how many windows there are of each label.

        ``StageError`` where none shows an object, or none is background.

        Returns:
            Images and mirror images; int64 [n_classes + 1], background first.
        """
        self.images.check_objects("finetune_dense")
        usable, counts = [], np.zeros(self._n_classes + 1, np.int64)
        for side in self.images.sides:
            labels = self.labels(side)
            own = np.bincount(labels[labels != IGNORED], minlength=len(counts))
            counts += own
            if own.any():
                usable.append(side)
        if not counts[1:].any():
            raise StageError(
                f"finetune_dense: no window of the train split overlaps an object with an IoU of at least "
                f"{self._settings.fg_iou:g}: {self.images.sizes_told()}; or lower finetune_dense.fg_iou"
            )
        if not counts[BACKGROUND]:
            raise StageError(
                "finetune_dense: no window of the train split is background: each has an IoU of at least "
                f"{self._settings.bg_iou:g} with an object, or lies in a crowd region; add larger scales to "
                "maps.scales_px, raise finetune_dense.bg_iou, or set finetune_dense.iterations to 0"
            )
        return usable, counts

    def draw(self, side: ImageSide, rng: np.random.Generator) -> DrawnWindows:
        """Draw an image's part of a mini-batch, each window at most once; fewer of a kind where it has fewer."""
        settings, labels = self._settings, self.labels(side)
        shown, background = np.flatnonzero(labels > BACKGROUND), np.flatnonzero(labels == BACKGROUND)
        shown = rng.choice(shown, min(settings.positives, len(shown)), replace=False)
        wanted = settings.random_negatives + (settings.background_pool if settings.offending_negatives else 0)
        drawn = rng.choice(background, min(wanted, len(background)), replace=False)
        rows = np.concatenate([shown, drawn[: settings.random_negatives]])
        return DrawnWindows(rows, labels[rows], drawn[settings.random_negatives :])


@dataclass(frozen=True)
class WindowBatch:
    """A mini-batch of windows as fc6 takes them.

    ``inputs`` float32 [n, d] and ``labels`` int64 [n] are trained on; ``pools`` float32 [k, d] are the background
    windows of one image after another, ``counts`` of each, of which the most offending are trained on.
    """

    inputs: NDArray[np.float32]
    labels: NDArray[np.int64]
    pools: NDArray[np.float32]
    counts: tuple[int, ...]


def window_batches(
    labels: WindowLabels, rows: PooledRows, sides_of: Callable[[int], tuple[ImageSide, ...]], run: TrainingRun
) -> Callable[[int], WindowBatch]:
    """Return what makes mini-batch ``number``; called from several threads."""

    def batch(number: int) -> WindowBatch:
        rng = generator(run.seed, run.stage, "windows", number)
        inputs, pools, drawn = [], [], []
        for side in sides_of(number):
            own = labels.draw(side, rng)
            # one reading of each map for both
            read = rows(side, labels.images.grid(side), np.concatenate([own.rows, own.pool]))
            inputs.append(read[: len(own.rows)])
            pools.append(read[len(own.rows) :])
            drawn.append(own)
        return WindowBatch(
            np.concatenate(inputs),
            np.concatenate([own.labels for own in drawn]),
            np.concatenate(pools),
            tuple(len(own.pool) for own in drawn),
        )

    return batch


def window_terms(offending: int, precision: str) -> Callable[[WindowLayers, WindowBatch], Mapping[str, Tensor]]:
    """Make the loss of the training loop: softmax cross-entropy of the windows drawn and the ``offending`` ones."""

    def loss(model: WindowLayers, batch: WindowBatch) -> Mapping[str, Tensor]:
        device = next(model.parameters()).device
        inputs, labels, pools = (
            torch.from_numpy(array).to(device) for array in (batch.inputs, batch.labels, batch.pools)
        )
        worst = most_offending(model, pools, batch.counts, offending, precision)
        rows = torch.cat([inputs, pools[worst]])
        wanted = torch.cat([labels, labels.new_full((len(worst),), BACKGROUND)])
        with in_precision(device, precision):
            logits = model(rows)
        return {"cross_entropy": functional.cross_entropy(logits.float(), wanted)}

    return loss


@torch.no_grad()
def most_offending(
    model: nn.Module, pools: Tensor, counts: Sequence[int], wanted: int, precision: str = "float32"
) -> Tensor:
    """Find the background windows that the model, as it is, takes for objects most: of each image ``wanted``.

    Those of smallest probability of background, its first output, without dropout; of equal ones the first (ours: the
    paper says "most offending").

    Args:
        pools: [k, d], the windows of one image after another, ``counts`` of each.

    Returns:
        Rows of ``pools``, int64, image by image, the worst first.
    """
    with evaluating(model), in_precision(pools.device, precision):
        background = functional.log_softmax(model(pools).float(), dim=1)[:, BACKGROUND]
    parts, start = [], 0
    for count in counts:
        own = background[start : start + count]
        parts.append(start + torch.argsort(own, stable=True)[:wanted])
        start += count
    return torch.cat(parts)
