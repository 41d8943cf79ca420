"""Reading the features stage's results: boxes and overlaps of every image, and one layer's features on demand."""

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import Artifact, Store
from cache.errors import StageError
from cache.text import nearest
from stages.boxes.geometry import Boxes

STAGE = "features"
_SMALL = ("boxes", "is_gt", "gt_class", "difficult", "overlaps")
_DASK_ROWS = 512
_STATISTICS_IMAGES = 200  # rcnn_feature_stats.m: images, and rows of each, that the mean norm is estimated from
_STATISTICS_ROWS = 200


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """One image's regions, ground truth first: n rows, N classes.

    ``boxes`` float32 [n, 4]; ``is_gt`` bool [n]; ``gt_class`` int64 [n], -1 for proposals; ``difficult`` bool [n];
    ``overlaps`` float32 [n, N], IoU with the best object of each class (or the share of a proposal inside a crowd
    region of the class, where that is above 0.7). ``features`` is read when first asked for.
    """

    image_id: int
    key: str
    layer: str
    boxes: Boxes
    is_gt: NDArray[np.bool_]
    gt_class: NDArray[np.int64]
    difficult: NDArray[np.bool_]
    overlaps: NDArray[np.float32]
    _store: Store = field(repr=False)
    _objects_only: bool = field(default=False, repr=False)

    @cached_property
    def features(self) -> NDArray[Any]:
        """float16 (or float32, as stored) [n, d], unscaled."""
        if self._objects_only:
            return self._store.get_rows(STAGE, self.key, self.layer, 0, len(self.boxes))
        return self._store.get(STAGE, self.key, [self.layer]).arrays[self.layer]

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Rows ``start:stop`` of ``features``; of the object only the chunks that hold them are read."""
        start, stop, _ = slice(start, stop).indices(len(self.boxes))
        return self._store.get_rows(STAGE, self.key, self.layer, start, stop)


class LayerView(Collection[ImageFeatures]):
    """Some images of a feature set as seen at one layer; can be passed over any number of times, in order.

    With ``read_ahead`` the next images' arrays are read in as many threads while the caller works on this one; at most
    that many wait in memory. 0 reads boxes as it goes and features only where they are asked for. ``objects_only``
    cuts every image to its ground-truth rows, for which only the first chunk of a layer is read.
    """

    def __init__(
        self,
        store: Store,
        keys: Sequence[tuple[int, str]],
        layer: str,
        read_ahead: int = 0,
        *,
        objects_only: bool = False,
    ) -> None:
        self._store = store
        self._keys = tuple(keys)
        self._ids = frozenset(image_id for image_id, _ in keys)
        self._read_ahead = read_ahead
        self._objects_only = objects_only
        self.layer = layer

    @property
    def image_ids(self) -> tuple[int, ...]:
        """The images' ids, in order."""
        return tuple(image_id for image_id, _ in self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, image: object) -> bool:
        return isinstance(image, ImageFeatures) and image.layer == self.layer and image.image_id in self._ids

    def __iter__(self) -> Iterator[ImageFeatures]:
        if self._read_ahead == 0:
            for image_id, key in self._keys:
                yield self._read(image_id, key)
            return
        waiting: list[Future[ImageFeatures]] = []
        pool = ThreadPoolExecutor(self._read_ahead, thread_name_prefix="features")
        try:
            for image_id, key in self._keys:
                waiting.append(pool.submit(self._read_all, image_id, key))
                if len(waiting) > self._read_ahead:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def __getitem__(self, index: int) -> ImageFeatures:
        if isinstance(index, slice):
            raise StageError("view[i] is the i-th image; regions across images are view.rows(start, stop)")
        return self._read(*self._keys[index])

    def image(self, image_id: int) -> ImageFeatures:
        """One image by its id; ``StageError`` where the view does not have it. (``view[i]`` is the i-th.)"""
        for one, key in self._keys:
            if one == image_id:
                return self._read(one, key)
        raise StageError(f"no features of image id {image_id} in this view")

    def counts(self) -> NDArray[np.int64]:
        """Rows of each image, int64 [images], from the objects' records, which are read once: no array is."""
        return self._counts.copy()

    @cached_property
    def _counts(self) -> NDArray[np.int64]:
        name = "ground_truth_count" if self._objects_only else "count"
        return np.array([self._store.get(STAGE, key, []).attrs[name] for _, key in self._keys], np.int64)

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Regions ``start:stop`` (as a slice) of all images in order, [k, d]; reads only the chunks that hold them."""
        if not self._keys:
            raise StageError("no image was asked for, so that there is no array of features")
        counts = self.counts()
        start, stop, _ = slice(start, stop).indices(int(counts.sum()))
        dtype, d = self.dtype_and_length()
        out = np.empty((max(0, stop - start), d), dtype)
        first = 0
        for (_, key), count in zip(self._keys, counts.tolist(), strict=True):
            begin, end = max(start, first), min(stop, first + count)
            if begin < end:
                part = self._store.get_rows(STAGE, key, self.layer, begin - first, end - first)
                out[begin - start : end - start] = part
            first += count
        return out

    def array(self) -> Any:
        """All rows of all images, in order, as a lazy Dask array [rows, d], chunks of at most 512 rows of an image."""
        import dask.array as da
        from dask.delayed import delayed

        if not self._keys:
            raise StageError("no image was asked for, so that there is no array of features")
        dtype, d = self.dtype_and_length()
        counts = self.counts().tolist()
        read = delayed(lambda key, a, b: self._store.get_rows(STAGE, key, self.layer, a, b), pure=True)
        parts = [
            da.from_delayed(read(key, a, min(n, a + _DASK_ROWS)), shape=(min(n, a + _DASK_ROWS) - a, d), dtype=dtype)
            for (_, key), n in zip(self._keys, counts, strict=True)
            for a in range(0, max(n, 1), _DASK_ROWS)
        ]
        return da.concatenate(parts)

    def dtype_and_length(self) -> tuple[np.dtype[Any], int]:
        """The layer's dtype as stored, and its length; ``LookupError`` for a view of no image."""
        stored = self._store.describe(STAGE, self._keys[0][1])["arrays"][self.layer]
        return np.dtype(stored["dtype"]), int(stored["shape"][1])

    def objects(self) -> "LayerView":
        """The same images, each cut to its ground-truth rows."""
        return LayerView(self._store, self._keys, self.layer, self._read_ahead, objects_only=True)

    def _read(self, image_id: int, key: str) -> ImageFeatures:
        arrays = self._store.get(STAGE, key, _SMALL).arrays
        rows = int(arrays["is_gt"].sum()) if self._objects_only else len(arrays["is_gt"])  # ground truth is first
        cut = {name: arrays[name][:rows] for name in _SMALL}
        return ImageFeatures(image_id, key, self.layer, **cut, _store=self._store, _objects_only=self._objects_only)

    def _read_all(self, image_id: int, key: str) -> ImageFeatures:
        image = self._read(image_id, key)
        _ = image.features  # read now, in the reading thread; kept by the image
        return image


class FeatureSet:
    """All images of one run of the features stage.

    Reading raises ``cache.StoreError`` where an object is gone or damaged, saying which command makes it again.
    """

    def __init__(self, store: Store, artifact: Artifact) -> None:
        if artifact.stage != STAGE:
            raise StageError(f"an artifact of stage {artifact.stage} holds no features")
        self._store = store
        self._artifact = artifact

    @property
    def image_ids(self) -> tuple[int, ...]:
        """Ids of all images, in the manifest's order."""
        return tuple(self._artifact.keys)

    @property
    def dims(self) -> dict[str, int]:
        """Feature length by layer, for the layers stored."""
        return dict(self._artifact.summary["layers"])

    def layer(self, layer: str, image_ids: Sequence[int] | None = None, *, read_ahead: int = 0) -> LayerView:
        """The images (all by default) as seen at one layer.

        Raises ``StageError`` for a layer that was not stored, or an image without features.
        """
        if layer not in self.dims:
            raise StageError(
                f"layer {layer!r} is not among the stored features ({', '.join(self.dims)})"
                f"{nearest(layer, self.dims)}; add it to features.layers"
            )
        keys = self._artifact.keys
        wanted = list(keys) if image_ids is None else list(image_ids)
        absent = [i for i in wanted if i not in keys]
        if absent:
            raise StageError(f"no features of image id {absent[0]}; run the stage features again")
        return LayerView(self._store, [(i, keys[i]) for i in wanted], layer, read_ahead)


def mean_norm(view: LayerView, seed: int) -> float:
    """Mean L2 norm of a layer's features, estimated much as the authors do (rcnn_feature_stats.m).

    At most 200 random images and at most 200 rows of each, ground truth included. The rows are a run at a random place,
    the first following on the last so that each is as likely: rows drawn one by one, as the authors' are, would lie in
    all of an image's chunks, and reading those of 200 images takes as long as mining them. The features are then scaled
    by 20 / mean norm. Raises ``StageError`` if there are no features, or all are 0.
    """
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(view))[:_STATISTICS_IMAGES])
    norms: list[NDArray[np.float64]] = []
    for index in chosen.tolist():
        image = view[index]
        n = len(image.boxes)
        start = int(rng.integers(max(1, n)))
        stop = start + min(n, _STATISTICS_ROWS)
        for run in (image.rows(start, min(stop, n)), image.rows(0, max(0, stop - n))):
            norms.append(np.linalg.norm(run.astype(np.float64), axis=1))
    mean = float(np.concatenate(norms).mean()) if sum(map(len, norms)) else 0.0
    if not mean > 0:
        raise StageError(
            f"layer {view.layer}: {'all features are 0' if sum(map(len, norms)) else 'no image has regions'}; "
            "check network.weights and the proposals"
        )
    return mean
