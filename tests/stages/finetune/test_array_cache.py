"""The bounded cache of arrays, with images in it."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.finetune.batches import ArrayCache


def image(index: int) -> np.ndarray:
    return np.full((10, 10, 3), index, np.uint8)  # 300 bytes


def test_least_recently_used_is_dropped_first() -> None:
    read: list[int] = []

    def reading(index: int) -> np.ndarray:
        read.append(index)
        return image(index)

    cache = ArrayCache(reading, 700)  # room for two
    for index in (0, 1, 0, 2, 0, 1):
        assert (cache[index] == index).all()
    assert read == [0, 1, 2, 1]  # 2 pushed 1 out, since 0 was used after it


def test_limit_zero_and_an_image_above_the_limit_are_read_each_time() -> None:
    for limit in (0, 299):
        cache = ArrayCache(image, limit)
        assert (cache[3] == 3).all()
        assert cache.held_bytes == 0


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 9), max_size=60), st.integers(0, 2000))
def test_never_above_the_limit_and_always_the_right_image(asked: list[int], limit: int) -> None:
    cache = ArrayCache(image, limit)
    for index in asked:
        assert (cache[index] == index).all()
        assert cache.held_bytes <= limit


def test_threads_get_their_images() -> None:
    cache = ArrayCache(image, 1000)
    asked = np.random.default_rng(0).integers(0, 12, 400).tolist()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: int(cache[i][0, 0, 0]), asked))
    assert found == asked
    assert cache.held_bytes <= 1000
