"""Parts of the work exclude the parts inside them, and whatever computes features names its own."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from stages.features.crops import Crop, Extractor
from stages.features.spp.extraction import Spp, SppExtractor
from stages.features.views import CENTRE, FULL, ViewNetwork
from stages.networks.network import build
from stages.stopwatch import collected, part, switch


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that stands still; call it to let seconds pass."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


def test_time_is_the_innermost_parts(clock: Callable[[float], None]) -> None:
    with collected() as seconds:
        clock(7)
        with part("rest"):
            clock(1)
            with part("conv"):
                clock(2)
                assert switch("fc") == "conv"
                clock(4)
            clock(8)
            with part("conv"):
                clock(16)
        clock(32)
    assert seconds == {"rest": 9, "conv": 18, "fc": 4}


def test_a_part_that_fails_is_ended(clock: Callable[[float], None]) -> None:
    with collected() as seconds:
        with pytest.raises(ValueError, match="no"), part("conv"):
            clock(1)
            raise ValueError("no")
        clock(2)
        with part("fc"):
            clock(3)
    assert seconds == {"conv": 1, "fc": 3}


def test_nobody_collects_and_nothing_is_measured(clock: Callable[[float], None]) -> None:
    with collected() as outside:
        pass
    with part("conv"):
        clock(1)
        switch("fc")
    assert outside == {}


def test_threads_are_collected_apart() -> None:
    found: dict[str, Any] = {}

    def work(name: str) -> None:
        with collected() as seconds, part(name):
            time.sleep(0.01)
        found[name] = seconds

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: list(seconds) for name, seconds in found.items()} == {"a": ["a"], "b": ["b"]}


@pytest.mark.parametrize("method", ["warp", "spp"])
@pytest.mark.parametrize(("layers", "parts"), [(("pool5",), {"conv", "rest"}), (("fc6",), {"conv", "fc", "rest"})])
def test_extractors_name_their_parts(method: str, layers: tuple[str, ...], parts: set[str]) -> None:
    generator = torch.Generator().manual_seed(0)
    if method == "warp":
        extract: Any = Extractor(build("small", 3, generator=generator), layers, Crop(context_px=5), batch=4)
    else:
        network = build("small", 3, generator=generator, pyramid=(1, 2))
        extract = SppExtractor(network, layers, Spp((100,), (1, 2), 64))
    boxes = np.array([[0, 0, 40, 40], [10, 10, 60, 80], [5, 20, 90, 70]], np.float32)
    image = np.random.default_rng(0).integers(0, 256, (100, 120, 3), np.uint8)
    alone = extract(image, boxes)
    with collected() as seconds:
        timed = extract(image, boxes)
    assert set(seconds) == parts
    assert all(value > 0 for value in seconds.values())
    for layer in layers:
        np.testing.assert_array_equal(timed[layer], alone[layer])


def test_views_name_their_parts() -> None:
    network = build("small", 3, generator=torch.Generator().manual_seed(0), pyramid=(1, 2))
    view = ViewNetwork(network, ("fc6",), 70, (CENTRE, FULL))
    image = np.random.default_rng(0).integers(0, 256, (100, 120, 3), np.uint8)
    alone = view(image)
    with collected() as seconds:
        timed = view(image)
    assert set(seconds) == {"conv", "fc", "rest"}
    np.testing.assert_array_equal(timed["fc6"], alone["fc6"])
