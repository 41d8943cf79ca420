"""Large pictures in ``rcnn detect``: what is said of them, and how much is worked on at a time."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from manifests.images import upright_size
from pipeline.cli.detect_large import Room, Watch, note_of_large
from stages.detections import search
from stages.detections.search import ProposalSearch, features_in_parts
from stages.detector import Detector
from stages.features.crops import Extractor
from stages.features.warp import DrawMask
from stages.proposals.settings import ProposalsSettings


def detector(**proposals: Any) -> Detector:
    """A detector of which only the settings of its proposals are there."""
    return Detector(cast(Any, SimpleNamespace(search=ProposalSearch(ProposalsSettings(**proposals), 0))))


def picture(path: Path, width: int, height: int, orientation: int = 1) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("L", (width, height)).save(path, exif=exif)
    return path


def test_large_pictures_are_named_with_what_a_width_would_save(tmp_path: Path) -> None:
    small, large = picture(tmp_path / "a.jpg", 400, 300), picture(tmp_path / "b.jpg", 4000, 3000)
    larger = picture(tmp_path / "c.png", 5000, 2000, orientation=6)  # upright 2000 wide
    broken = tmp_path / "d.jpg"
    broken.write_bytes(b"no picture")
    assert note_of_large([small, broken], detector()) is None
    note = note_of_large([small, large, larger, broken], detector())
    assert note is not None and "\n" not in note
    assert "2 pictures" in note and "b.jpg (4000 x 3000)" in note and "1.3 GiB" in note and "resize_width_px" in note
    assert "1/64 of its pixels" in note
    assert "1/16 of its pixels" in str(note_of_large([larger], detector()))


@pytest.mark.parametrize("proposals", [{"resize_width_px": 500}, {"method": "sliding_window"}])
def test_of_those_not_searched_at_full_size_nothing_is_said(tmp_path: Path, proposals: dict[str, Any]) -> None:
    assert note_of_large([picture(tmp_path / "b.jpg", 4000, 3000)], detector(**proposals)) is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_size_is_the_upright_pictures(tmp_path: Path, orientation: int) -> None:
    width, height = (30, 20) if orientation < 5 else (20, 30)
    assert upright_size(picture(tmp_path / "a.jpg", 30, 20, orientation)) == (width, height)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 15), min_size=1, max_size=20))
def test_no_more_than_fits_is_worked_on_but_one_alone(needs: list[int]) -> None:
    room, lock = Room(10), threading.Lock()
    inside: list[int] = []

    def work(need: int) -> None:
        with room.taken(need):
            with lock:
                inside.append(need)
                assert sum(min(n, 10) for n in inside) <= 10
            with lock:
                inside.remove(need)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, needs))


def test_what_failed_gives_its_room_back() -> None:
    room = Room(1)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), room.taken(1):
            raise ZeroDivisionError


class Said:
    """A log, and a clock that is set by hand."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.now = 100.0

    def info(self, line: str) -> None:
        self.lines.append(line)

    def since(self, watch: Watch, seconds: int) -> list[str]:
        self.lines = []
        for _ in range(seconds):
            self.now += 1
            watch.look()
        return self.lines


def test_a_picture_that_takes_long_is_told_by_its_parts() -> None:
    said = Said()
    watch = Watch(cast(Any, said), lambda: said.now)
    assert said.since(watch, 60) == []
    with watch.over(Path("big.jpg")) as report:
        report("looking for regions")
        assert said.since(watch, 4) == []
        assert said.since(watch, 2) == ["big.jpg: looking for regions, 5.0s so far"]
        assert len(said.since(watch, 60)) == 2
        report("features", 512, 2000)
        assert said.since(watch, 5)[-1].startswith("big.jpg: features, 512 of 2000")
        report("features", 1024, 2000)
        assert said.since(watch, 20) == []
        with watch.over(Path("second.jpg")):  # many at once: the one that is worked on longest
            assert all(line.startswith("big.jpg: features, 1024") for line in said.since(watch, 40))
    assert said.since(watch, 60) == []


def test_pictures_that_take_seconds_are_not_spoken_of() -> None:
    said = Said()
    watch = Watch(cast(Any, said), lambda: said.now)
    for i in range(30):
        with watch.over(Path(f"{i}.jpg")):
            assert said.since(watch, 4) == []


class OfNumbers(Extractor):
    """Features that are each box's first coordinate; knows what it was asked for at a time."""

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self.asked: list[int] = []

    def __call__(
        self, image: NDArray[np.uint8], boxes: NDArray[np.floating], masks: DrawMask | None = None
    ) -> dict[str, NDArray[np.float32]]:
        self.asked.append(len(boxes))
        return {"fc7": np.repeat(boxes[:, :1], 3, axis=1).astype(np.float32)}


@pytest.mark.parametrize("n", [0, 1, 511, 512, 513, 1500])
def test_features_come_in_whole_batches_and_are_told(n: int) -> None:
    boxes = np.arange(4 * n, dtype=np.float32).reshape(n, 4) / np.float32(8)
    extract, told = OfNumbers(batch=20), []
    blank = np.zeros((4, 4, 3), np.uint8)
    found = features_in_parts(extract, blank, boxes, "float16", lambda *part: told.append(part))
    assert found["fc7"].dtype == np.float16 and np.array_equal(found["fc7"][:, 0], boxes[:, 0].astype(np.float16))
    assert all(count == 520 for count in extract.asked[:-1]) and sum(extract.asked) == n
    assert told == [("features", start, n) for start in range(0, max(1, n), 520)]


def test_spp_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_REGIONS_AT_ONCE", 2)
    asked = []

    def pool(image: NDArray[np.uint8], boxes: NDArray[np.floating]) -> dict[str, NDArray[np.float32]]:
        asked.append(len(boxes))
        return {"fc7": np.zeros((len(boxes), 3), np.float32)}

    boxes = np.zeros((9, 4), np.float32)
    features_in_parts(cast(Any, pool), np.zeros((4, 4, 3), np.uint8), boxes, "float32", lambda *part: None)
    assert asked == [9]
