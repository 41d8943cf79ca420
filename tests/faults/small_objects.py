"""Objects that are put while something goes wrong."""

import numpy as np

from cache import Payload, Recipe, Store
from cache.recipe import Form


class Samples:
    """Recipes and objects of a store, small."""

    @staticmethod
    def recipe(i: int = 0, stage: str = "features") -> Recipe:
        return Recipe(stage, 1, {}, {"image": i})

    @classmethod
    def put(cls, store: Store, i: int = 0, form: Form = "hdf5") -> str:
        values = np.random.default_rng(i).standard_normal((40, 8)).astype(np.float16)
        return store.put(cls.recipe(i), Payload({"fc7": values}, {"image": f"{i}.jpg", "count": 40}, form))
