"""Objects to fill a store with."""

import numpy as np

from cache import Payload, Recipe, Store
from cache.recipe import Form


class Samples:
    """Recipes and payloads that look like the pipeline's."""

    @staticmethod
    def recipe(i: int = 0, stage: str = "features") -> Recipe:
        return Recipe(stage, 1, {"layer": "fc7"}, {"image": f"{i:064x}"})

    @staticmethod
    def payload(i: int = 0, form: Form = "zarr", rows: int = 40, width: int = 64) -> Payload:
        rng = np.random.default_rng(i)
        features = np.maximum(rng.standard_normal((rows, width)), 0).astype(np.float16)
        boxes = rng.uniform(0, 500, (rows, 4)).astype(np.float32)
        attrs = {"image": f"{i:06d}.jpg", "image_sha256": f"{i:064x}", "count": rows}
        return Payload({"boxes": boxes, "fc7": features, "is_gt": boxes[:, 0] > 250}, attrs, form)

    def put(self, store: Store, i: int = 0, form: Form = "zarr", stage: str = "features") -> str:
        return store.put(self.recipe(i, stage), self.payload(i, form))
