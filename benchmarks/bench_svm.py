"""Training 20 SVMs with hard negative mining: the dual solver beside liblinear, on the same features.

The features are made up, of the shape and statistics of fc7 (2,000 regions x 4,096 per image, a quarter of them not
zero, most of their energy in a few dozen directions): a latent vector of the image plus one of the region, plus a
class's direction by the region's IoU with an object, through one random layer and a ReLU. The classes are so weak that
each is fitted a dozen times. They are made image by image while mining iterates, which is timed apart and taken off;
reading and decompressing, which a real run pays in a thread beside, is ``bench_reading``'s. Either side works in memory
that the process holds already: on a virtual machine getting it can take longer than copying the rows into it.
"""

import functools
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from sklearn.metrics import average_precision_score

from benchmarks import harness
from benchmarks.harness import Figure
from benchmarks.made_up import LATENT, SIGNAL, random_layer
from stages.svm.classifier import Classifier
from stages.svm.mining import train_svms
from stages.svm.problem import SvmProblem
from stages.svm.records import FitRecord
from stages.svm.settings import SvmSettings

CLASSES = tuple(f"class {j}" for j in range(20))
ROWS = 2000
IMAGES, HELD_OUT = 500, 60
OBJECTIVE_ABOVE, AP_APART = 1e-4, 0.2  # of liblinear's, at most
MEMORY = 7 << 29  # bytes: more than either side needs


@functools.cache
def layer() -> tuple[torch.Tensor, ...]:
    """The random layer's weights and bias, and the classes' directions."""
    return tuple(map(torch.from_numpy, random_layer(len(CLASSES))))


@dataclass(frozen=True)
class MadeUp:
    """One image: ``stages.svm.hard_negatives.MiningImage``, the same each time it is made."""

    image_id: int
    objects_only: bool = False

    @cached_property
    def overlaps(self) -> np.ndarray:
        rng = np.random.default_rng([7, self.image_id])
        classes = rng.integers(0, len(CLASSES), 1 + rng.poisson(1.5))
        classes[0] = self.image_id % len(CLASSES)  # so that no class lacks an object
        overlaps = np.zeros((ROWS, len(CLASSES)), np.float32)
        for j in classes:
            near = np.flatnonzero(rng.random(ROWS) < 0.04)
            overlaps[near, j] = np.maximum(overlaps[near, j], 0.05 + 0.9 * rng.random(len(near)) ** 1.5)
        overlaps[: len(classes)] = np.eye(len(CLASSES))[classes]
        return overlaps[: len(classes)] if self.objects_only else overlaps

    @property
    def boxes(self) -> np.ndarray:
        return np.zeros((len(self.overlaps), 4), np.float32)  # read for near duplicates alone, which are kept here

    @property
    def is_gt(self) -> np.ndarray:
        flags: np.ndarray = self.overlaps.max(axis=1) == 1
        return flags

    @property
    def gt_class(self) -> np.ndarray:
        return np.where(self.is_gt, self.overlaps.argmax(axis=1), -1)

    @cached_property
    def features(self) -> np.ndarray:
        weights, bias, directions = layer()
        generator = torch.Generator().manual_seed(self.image_id)
        latent = 0.6 * torch.randn((1, LATENT), generator=generator)
        latent = latent + 0.8 * torch.randn((ROWS, LATENT), generator=generator)[: len(self.overlaps)]
        latent += SIGNAL * torch.from_numpy(self.overlaps) @ directions
        # numpy's memory comes in large pages, as that which features are read into does; torch's does not
        out = np.empty((len(latent), weights.shape[1]), np.float16)
        torch.from_numpy(out).copy_(torch.relu_(torch.addmm(bias, latent, weights)))
        return out


def made(image_id: int, objects_only: bool) -> MadeUp:
    """An image whose features have been computed."""
    image = MadeUp(image_id, objects_only)
    _ = image.features
    return image


class Stream(Collection[MadeUp]):
    """Images made as they are iterated over; ``seconds`` is what making them took."""

    def __init__(self, ids: range, objects_only: bool = False) -> None:
        self.ids, self.objects_only, self.seconds = ids, objects_only, 0.0

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, image: object) -> bool:
        return isinstance(image, MadeUp) and image.image_id in self.ids

    def __iter__(self) -> Iterator[MadeUp]:
        with ThreadPoolExecutor(harness.CORES) as threads:
            for first in self.ids[:: harness.CORES]:
                begin = time.perf_counter()
                ids = range(first, min(first + harness.CORES, self.ids.stop))
                images = list(threads.map(lambda i: made(i, self.objects_only), ids))
                self.seconds += time.perf_counter() - begin
                yield from images


def train(n_images: int, settings: SvmSettings, workers: int) -> tuple[Classifier, list[FitRecord], float]:
    """The model, its mining log, and the seconds without the making of features."""
    scale = settings.target_norm / np.linalg.norm(MadeUp(0).features.astype(np.float32), axis=1).mean()
    images, objects = Stream(range(n_images)), Stream(range(n_images), objects_only=True)
    begin = time.perf_counter()
    model, records = train_svms(
        images, CLASSES, float(scale), settings, 3, harness.Quiet(), objects=objects, workers=workers
    )
    return model, records, time.perf_counter() - begin - images.seconds - objects.seconds


def full_objectives(models: list[Classifier], settings: SvmSettings) -> np.ndarray:
    """[models, classes]: what is minimised, over all regions of the training images, cached or not."""
    problem, none = SvmProblem.of(settings), np.zeros(0)
    totals = np.array(
        [
            [problem.objective(w, float(b), none, none).total for w, b in zip(model.weights, model.bias, strict=True)]
            for model in models
        ]
    )
    for image in Stream(range(IMAGES)):
        negative = image.overlaps < settings.negative_iou
        positive = (image.overlaps == 1) & image.is_gt[:, None]
        cost = problem.negative_cost * negative + problem.positive_cost * positive
        sign = np.where(positive, 1, -1)
        for i, model in enumerate(models):
            totals[i] += (cost * np.maximum(0, 1 - sign * model.scores(image.features))).sum(axis=0)
    return totals


def average_precisions(models: list[Classifier], first_id: int) -> np.ndarray:
    """[models, classes]: points of AP in ranking unseen images' regions, IoU >= 0.5 being right."""
    images = list(Stream(range(first_id, first_id + HELD_OUT)))
    right = np.concatenate([image.overlaps >= 0.5 for image in images])
    scores = [np.concatenate([model.scores(image.features) for image in images]) for model in models]
    return np.array([[100 * average_precision_score(r, s) for r, s in zip(right.T, z.T, strict=True)] for z in scores])


def figures(device: str) -> Iterator[Figure]:
    """The two solvers one after the other, after a short run of each in which all is compiled."""
    if device != "cpu":
        return
    settings = SvmSettings()
    sides = [settings, settings.model_copy(update={"solver": "liblinear"})]
    torch.set_num_threads(1)  # its threads would go on waiting actively while the SVMs are trained
    harness.keep_memory(MEMORY)
    for side in sides:
        train(len(CLASSES), side, harness.CORES)
    (ours, fits, seconds), (theirs, their_fits, their_seconds) = (train(IMAGES, s, harness.CORES) for s in sides)
    objectives = full_objectives([ours, theirs], settings)
    above = objectives[0] / objectives[1] - 1
    precision = average_precisions([ours, theirs], 10_000).mean(axis=1)
    last = {record.class_name: record for record in fits}.values()
    gap = max(record.gap or 0 for record in last)
    yield Figure(
        f"SVM training with mining, 20 classes, {IMAGES} images x 2,000 regions x 4,096, {harness.CORES} cores",
        f"{seconds:.1f} s ({len(fits)} fits)",
        f"liblinear {their_seconds:.1f} s ({len(their_fits)} fits)",
        their_seconds / seconds,
        10,
        f"gap of the last fits at most {gap:.0e}; made-up features",
    )
    yield Figure(
        "their objective over all regions, cached or not, of the worst class",
        f"{above.max():+.2%} beside liblinear's (the best {above.min():+.2%})",
        f"liblinear's, and {OBJECTIVE_ABOVE:.0e} of it",
        (1 + OBJECTIVE_ABOVE) / (1 + above.max()),
        1,
    )
    yield Figure(
        "their AP in ranking unseen images' regions, mean of the classes",
        f"{precision[0]:.2f}",
        f"liblinear's {precision[1]:.2f}, to {AP_APART} points",
        1 + (AP_APART - abs(precision[0] - precision[1])) / 100,
        1,
    )


if __name__ == "__main__":
    harness.main(figures)
