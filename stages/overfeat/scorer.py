"""The classifier and the regressor at every window of an image, from its maps (OverFeat sections 3.3 and 4.1)."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cache.errors import StageError
from stages.boxes.geometry import Boxes
from stages.dense.dense_pass import FC_BATCH
from stages.dense.windows import windows_of
from stages.networks.forward import DTYPES, deterministic, device_of
from stages.stopwatch import part

from .classifier import DenseClassifier
from .combining import top_classes
from .places import ImageGrid, Indices, image_grid
from .regressor import EdgeRegressor
from .settings import SlideSettings
from .windows import EVERY_CLASS, ScoredWindows


@dataclass(frozen=True)
class _PooledImage:
    """An image's windows as fc6 takes them: of each scale a view of its pooled map, [rows, columns, c, g, g]."""

    grid: ImageGrid
    views: tuple[Tensor, ...]

    def rows(self, chosen: Indices) -> Tensor:
        """Copy windows, in rising order: int64 [n] -> [n, d]."""
        scales, rows, columns = self.grid.places(chosen)
        return torch.cat([self._at(k, rows[scales == k], columns[scales == k]) for k in np.unique(scales).tolist()])

    def around(self, chosen: Indices) -> Tensor:
        """Copy the window of the same centre one scale below each: [n, d]; zeros at the smallest scale, as in training.

        Every window of that scale counts, whether it is looked at or not.
        """
        scales, rows, columns = self.grid.places(chosen)
        found = []
        for k in np.unique(scales).tolist():
            own_rows, own_columns = rows[scales == k], columns[scales == k]
            if k:
                by_row, by_column = self.grid.surrounding(k)
                found.append(self._at(k - 1, by_row[own_rows], by_column[own_columns]))
            else:
                found.append(torch.zeros_like(self._at(k, own_rows, own_columns)))
        return torch.cat(found)

    def _at(self, scale: int, rows: Indices, columns: Indices) -> Tensor:
        view = self.views[scale]
        index = tuple(torch.from_numpy(axis).to(view.device) for axis in (rows, columns))
        return view[index].flatten(1)


class WindowScorer:
    """Scores the windows of an image and regresses their boxes; safe to call from several threads.

    Copies what it computes with. Computes as :func:`~stages.networks.forward.deterministic` says; an image's values
    depend on no other image. Raises ``StageError`` as :func:`~stages.dense.windows.windows_of`.

    Args:
        k: Of a regressor by class, of how many classes of each scale it is asked (``merge.k``); None: of all.
        dtype: The arithmetic.
    """

    def __init__(
        self,
        classifier: DenseClassifier,
        regressor: EdgeRegressor,
        settings: SlideSettings,
        k: int | None,
        device: str,
        dtype: str = "float32",
    ) -> None:
        self.windows = windows_of(classifier.network)
        self._coarse = settings.stride == "coarse"
        self._device, self._dtype, self._k = torch.device(device_of(device)), DTYPES[dtype], k
        self._fc = copy.deepcopy(classifier.fc_module()).eval().requires_grad_(False).to(self._device, self._dtype)
        self._classifier = classifier
        self._regressor = replace(
            regressor, layers=copy.deepcopy(regressor.layers).eval().to(self._device, self._dtype)
        )

    def __call__(self, maps: Mapping[int, NDArray[Any]], width: int, height: int, image: str) -> ScoredWindows:
        """Score the windows of an image of this width and height.

        Args:
            maps: by the scale in px, as stored: [y, x, c].

        Raises ``StageError`` naming the image where a probability or an edge is not a number.
        """
        grid = image_grid(width, height, sorted(maps), self.windows)
        looked_at, coarse = self._looked_at(grid)
        boxes, at_scale = grid.boxes[looked_at], grid.places(looked_at)[0]
        with part("windows"), torch.inference_mode(), deterministic(self._device):
            pooled = _PooledImage(grid, tuple(self._view(maps[one.scale_px]) for one in grid.scales))
            scores = self._scores(pooled, looked_at)
            edges, classes = self._edges(pooled, looked_at, at_scale, scores, boxes)
        for values, of in ((scores, "finetune_dense"), (edges, "regress")):
            if not np.isfinite(values).all():
                raise StageError(f"{image}: {of} gives what is not a number; lower {of}.lr and run `dvc repro`")
        scale_px = np.array([one.scale_px for one in grid.scales])
        return ScoredWindows(boxes, scale_px[at_scale], coarse, scores, edges, classes)

    def _looked_at(self, grid: ImageGrid) -> tuple[Indices, NDArray[np.bool_]]:
        """Number the windows that are looked at, int64 [n]; tell which are at the pooling's own stride, bool [n]."""
        every, offsets = np.arange(len(grid)), self.windows.pooling.stride
        _, rows, columns = grid.places(every)
        coarse = (rows % offsets == 0) & (columns % offsets == 0)
        chosen = coarse if self._coarse else np.ones(len(grid), np.bool_)
        return every[chosen], coarse[chosen]

    def _view(self, fmap: NDArray[Any]) -> Tensor:
        """Pool a map [y, x, c]: a view of its windows."""
        ready = torch.from_numpy(fmap).to(self._device, self._dtype)[None].permute(0, 3, 1, 2)
        return self.windows(ready)[0]

    def _scores(self, pooled: _PooledImage, looked_at: Indices) -> NDArray[np.float32]:
        """Compute the probability of each class in each window: float32 [n, C]."""
        logits = []
        for batch in _batches(looked_at):
            rows = pooled.rows(batch)
            if self._classifier.context:
                rows = torch.cat([rows, pooled.around(batch)], dim=1)
            with part("fc", self._device):
                logits.append(self._fc(rows))
        found: NDArray[np.float32] = self._classifier.probabilities(torch.cat(logits)).cpu().numpy()
        return found

    def _edges(
        self,
        pooled: _PooledImage,
        looked_at: Indices,
        at_scale: Indices,
        scores: NDArray[np.float32],
        boxes: Boxes,
    ) -> tuple[NDArray[np.float32], Indices]:
        """Compute where the objects lie, float32 [n, K, 4], and by whose regressor, int64 [n, K].

        One by class is asked of those in the top k of a window's scale.
        """
        classes = np.full((len(boxes), 1), EVERY_CLASS)
        if self._regressor.per_class:
            own = [top_classes(scores[at_scale == k], self._k) for k in range(len(pooled.views))]
            classes = np.stack(own)[at_scale]
        edges = []
        for places in _batches(np.arange(len(boxes))):
            rows = pooled.rows(looked_at[places])
            with part("regress", self._device):
                edges.append(self._regressor.edges(rows, boxes[places], classes[places]))
        return np.concatenate(edges), classes


def _batches(chosen: Indices) -> Iterator[Indices]:
    """Cut the windows of all scales into batches."""
    for start in range(0, len(chosen), FC_BATCH):
        yield chosen[start : start + FC_BATCH]
