"""The rows of an image that regressors see: features of its objects and regions, read from the store."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import Artifact, Store
from cache.errors import StageError
from manifests import ImageRecord

from .overlaps import Overlaps
from .region_features import object_rows
from .settings import Further, RegionFeaturesSettings


@dataclass(frozen=True)
class RowReader:
    """Reads rows of features as ``region_features.features`` has them; safe to call from several threads at once.

    ``full`` is the list of stage ``features``, ``fg`` that of ``region_features``, which lists nothing where the
    settings ask for ``full`` alone.
    """

    store: Store
    full: Artifact
    fg: Artifact
    settings: RegionFeaturesSettings

    def keys(self, record: ImageRecord) -> dict[str, str]:
        """Keys of the objects that an image's rows are read from, by stage; StageError where there is none."""
        of = {"full": [self.full], "fg": [self.fg], "full_fg": [self.full, self.fg]}[self.settings.features]
        for one in of:
            if record.id not in one.keys:
                raise StageError(f"{record.file_name}: no features of this image; run the stage {one.stage} again")
        return {one.stage: one.keys[record.id] for one in of}

    def of(self, record: ImageRecord, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Read an image's rows: its objects, whose box rows are ``rows`` int64 [k], then its regions: [k + n, d]."""
        return read_rows(self.store, self.keys(record), self.settings, object_rows(record, rows))


def read_rows(
    store: Store,
    keys: Mapping[str, str],
    settings: RegionFeaturesSettings,
    objects: NDArray[np.int64] | None = None,
) -> NDArray[Any]:
    """Read an image's rows as stored: of its objects, if they are asked for, then of its regions, [k + n, d].

    Args:
        store: where they lie.
        keys: of the image's objects in it, by stage.
        settings: which features.
        objects: int64 [k], the rows among those of stage ``features`` of all objects that have a box and a mask; None:
            regions alone.
    """
    parts = []
    if "features" in keys:
        attrs = store.get("features", keys["features"], []).attrs
        first, count = int(attrs["ground_truth_count"]), int(attrs["count"])
        n = count - first if settings.max_regions is None else min(settings.max_regions, count - first)
        every = store.get_rows("features", keys["features"], settings.layer, 0, first + n)
        parts.append(every[first:] if objects is None else np.concatenate([every[:first][objects], every[first:]]))
    if "region_features" in keys:
        attrs = store.get("region_features", keys["region_features"], []).attrs
        first, count = int(attrs["objects"]), int(attrs["count"])
        begin, end = 0 if objects is not None else first, count
        if settings.max_regions is not None:
            end = min(count, first + settings.max_regions)
        parts.append(store.get_rows("region_features", keys["region_features"], settings.layer, begin, end))
    if len(set(map(len, parts))) > 1:
        raise StageError(
            f"{len(parts[0])} rows of features and {len(parts[1])} of region_features; run "
            "`dvc repro segmentation/dvc.yaml`"
        )
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


@dataclass(frozen=True)
class TrainingImage:
    """What regressors are trained on of an image: k + n rows, its objects first, for N regressors.

    Attributes:
        values: [k + n, d], as stored.
        targets: float32 [k + n, N], overlaps.
        counts: float64 [k + n], how often each row counts.
        objects: k.
    """

    values: NDArray[Any]
    targets: NDArray[np.float32]
    counts: NDArray[np.float64]
    objects: int


@dataclass(frozen=True)
class TrainingReader:
    """Reads the training images' rows with their targets, of N classes and of what is ``further`` regressed.

    ``background`` gives the overlaps of an image's regions, all proposals, with its background: float32 [n].
    ``mirrored`` lists the features of objects' mirror images, which then stand behind the objects; None: without.
    """

    rows: RowReader
    overlaps: Artifact
    n_classes: int
    best_iou: float
    further: tuple[Further, ...] = ()
    background: Callable[[ImageRecord], NDArray[np.float32]] | None = None
    mirrored: Artifact | None = None

    def targets(self, record: ImageRecord) -> NDArray[np.float32]:
        """An image's targets alone, float32 [k + n, N + F], without reading features; k with the mirrored objects."""
        return self._targets(record, self._overlaps(record))

    def _targets(self, record: ImageRecord, found: Overlaps) -> NDArray[np.float32]:
        limit = self.rows.settings.max_regions
        columns = [found.targets(limit, self.n_classes)]
        for one in self.further:
            if one == "object":
                columns.append(found.of_any_class(limit)[:, None])
            else:
                assert self.background is not None
                objects = np.zeros(len(found.boxed()), np.float32)  # an object's pixels are no background's
                columns.append(np.concatenate([objects, self.background(record)[:limit]])[:, None])
        every = np.concatenate(columns, axis=1)
        return every if self.mirrored is None else self._twice(every, every, found)

    @staticmethod
    def _twice(rows: NDArray[Any], again: NDArray[Any], found: Overlaps) -> NDArray[Any]:
        """Put the first k of ``again`` behind the objects, the first k of ``rows``."""
        k = len(found.boxed())
        return np.concatenate([rows[:k], again[:k], rows[k:]])

    def __call__(self, record: ImageRecord) -> TrainingImage:
        """One image's rows; StageError where its features and its overlaps are of other proposals."""
        found, limit = self._overlaps(record), self.rows.settings.max_regions
        boxed = found.rows[found.boxed()]
        values, targets = self.rows.of(record, boxed), self._targets(record, found)
        counts, objects = found.counts(limit, self.best_iou), len(boxed)
        if self.mirrored is not None:
            key, layer = self.mirrored.keys[record.id], self.rows.settings.layer
            values = self._twice(values, self.rows.store.get(self.mirrored.stage, key).arrays[layer], found)
            counts, objects = self._twice(counts, np.ones(objects), found), 2 * objects
        if len(values) != len(targets):
            raise StageError(
                f"{record.file_name}: {len(values)} rows of features and {len(targets)} of overlaps; run "
                "`dvc repro segmentation/dvc.yaml`"
            )
        return TrainingImage(values, targets, counts, objects)

    def _overlaps(self, record: ImageRecord) -> Overlaps:
        return Overlaps.of(self.rows.store.get(self.overlaps.stage, self.overlaps.keys[record.id]).arrays)
