"""Selective search against OpenCV's on real photographs: seconds per image on one thread, quality at equal box count.

    python -m benchmarks.bench_selective_search ../shared/data/coco128 --opencv-python /path/to/other/venv/bin/python

Without a folder: the figures of ``make bench``, from some of ``harness.photographs()``. With one: a table.

The folder holds ``instances.json`` (COCO) and ``images/``. OpenCV's selective search is in its contrib build, which
cannot be installed beside the plain one: ``--opencv-python`` names an interpreter that has numpy and
opencv-contrib-python-headless (left out where this interpreter's own cv2 has ximgproc). Both sides take turns image by
image, on the same pixels and in the same run, so that other load on the machine meets both alike. About three minutes
for 64 images.

Quality: recall at IoU 0.5 and 0.7 and mean best overlap over all objects, and over those above 32 x 32 pixels of area.
At equal box count, each image's longer list is cut to the shorter one's length, best first.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks import harness
from benchmarks.harness import Figure

PHOTOS = 48  # for the figures: on 20 either side's quality may be ahead by chance
WIDTH = 500
MIN_SIDE = 20
SEED = 3
LARGE_AREA = 32 * 32
FAST_K, OPENCV_K = (50, 100), 150  # the defaults of either


@dataclass(frozen=True)
class Photo:
    """A photograph at width 500 with its objects in those pixels, and their areas in the original's."""

    name: str
    rgb: Any  # uint8 [H, W, 3]
    objects: Any  # float32 [m, 4]
    areas: Any  # float64 [m]


def load(folder: Path, count: int) -> list[Photo]:
    """The first ``count`` photographs by file name, resized to width 500."""
    coco = json.loads((folder / "instances.json").read_text())
    photos = []
    for image in sorted(coco["images"], key=lambda i: i["file_name"])[:count]:
        path = folder / "images" / Path(image["file_name"]).name
        rgb = cv2.cvtColor(harness.read_bgr(path), cv2.COLOR_BGR2RGB)
        height, width = rgb.shape[:2]
        xywh = np.array([a["bbox"] for a in coco["annotations"] if a["image_id"] == image["id"]]).reshape(-1, 4)
        objects = np.column_stack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]) * (WIDTH / width)
        how = cv2.INTER_AREA if width > WIDTH else cv2.INTER_CUBIC
        small = cv2.resize(rgb, (WIDTH, -(-height * WIDTH // width)), interpolation=how)
        photos.append(Photo(image["file_name"], small, objects.astype(np.float32), xywh[:, 2] * xywh[:, 3]))
    return photos


def ours(photo: Photo, k: tuple[int, ...], min_region_px: int | None) -> tuple[Any, float]:
    """All boxes of fast mode (or of these k), and seconds."""
    from stages.proposals.selective_search.search import selective_search

    start = time.perf_counter()
    found = selective_search(
        photo.rgb,
        np.random.default_rng([SEED, len(photo.name)]),
        k=k,
        colors=("hsv", "lab"),
        strategies=("color_texture_size_fill", "texture_size_fill"),
        sigma=0.8,
        min_region_px=min_region_px,
        min_side_px=MIN_SIDE,
        resize_width_px=None,
        max_proposals=10**6,
    )
    return found.boxes, time.perf_counter() - start


class Peer:
    """OpenCV's fast mode in its own process, one image at a time."""

    def __init__(self, python: str, photos: list[Photo], folder: Path) -> None:
        self._folder = folder
        for i, photo in enumerate(photos):
            np.save(folder / f"{i}.npy", photo.rgb)
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
        self._process = subprocess.Popen(
            [python, __file__, "--serve", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __call__(self, i: int, base_k: int) -> tuple[Any, float]:
        """Boxes of image i with sides of at least 20 px, and seconds."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{i} {base_k}\n")
        self._process.stdin.flush()
        seconds = self._process.stdout.readline()
        if not seconds:
            sys.exit("OpenCV's process ended: does --opencv-python have opencv-contrib-python-headless and numpy?")
        return np.load(self._folder / f"{i}-boxes.npy"), float(seconds)

    def close(self) -> None:
        self._process.communicate()


def serve(folder: Path) -> None:
    """The peer's side: read "image base_k" lines, write boxes to a file and seconds to stdout."""
    cv2.setNumThreads(1)
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    for line in sys.stdin:
        i, base_k = (int(word) for word in line.split())
        bgr = np.ascontiguousarray(np.load(folder / f"{i}.npy")[..., ::-1])
        start = time.perf_counter()
        search.setBaseImage(bgr)
        search.switchToSelectiveSearchFast(base_k)
        found = np.asarray(search.process(), np.int32).reshape(-1, 4)
        seconds = time.perf_counter() - start
        found = found[(found[:, 2:] >= MIN_SIDE).all(axis=1)]
        found[:, 2:] += found[:, :2]
        np.save(folder / f"{i}-boxes.npy", found.astype(np.float32))
        print(seconds, flush=True)


def quality(photos: list[Photo], boxes: list[Any]) -> str:
    """One table row: boxes per image, and recall and overlap over all and over the larger objects."""
    from stages.boxes.recall import average_best_overlap, best_overlaps, recall_at

    overlaps = np.concatenate([best_overlaps(b, p.objects) for b, p in zip(boxes, photos, strict=True)])
    large = np.concatenate([p.areas for p in photos]) > LARGE_AREA
    cells = [f"{np.mean([len(b) for b in boxes]):7.0f}"]
    for chosen in (overlaps, overlaps[large]):
        cells += [f"{v:.3f}" for v in (*recall_at(chosen, (0.5, 0.7)), average_best_overlap(chosen))]
    return "  ".join(cells)


def compare(photos: list[Photo], peer: Peer, base_ks: list[int], k: tuple[int, ...], min_region_px: int | None) -> None:
    """Run both sides in turn and print the table."""
    ours(photos[0], k, min_region_px)  # compile, or load compiled code, outside the timing
    mine: list[tuple[Any, float]] = []
    theirs: dict[int, list[tuple[Any, float]]] = {base_k: [] for base_k in base_ks}
    for i, photo in enumerate(photos):
        mine.append(ours(photo, k, min_region_px))
        for base_k in base_ks:
            theirs[base_k].append(peer(i, base_k))
    print("                            boxes   all objects: r@.5   .7    MBO   above 32x32: r@.5  .7  MBO")
    print(f"{'this, every box':24}", quality(photos, [b for b, _ in mine]))
    for base_k, found_there in theirs.items():
        cuts = [min(len(a), len(b)) for (a, _), (b, _) in zip(mine, found_there, strict=True)]
        print(f"{f'OpenCV k={base_k}, every box':24}", quality(photos, [b for b, _ in found_there]))
        for name, found in (("  this, equal count", mine), ("  OpenCV, equal count", found_there)):
            print(f"{name:24}", quality(photos, [b[:n] for (b, _), n in zip(found, cuts, strict=True)]))
    own = np.array([s for _, s in mine])
    print(f"\nthis: {own.mean():.3f} s per image (median {np.median(own):.3f}), one thread")
    for base_k, found_there in theirs.items():
        other = np.array([s for _, s in found_there])
        print(
            f"OpenCV k={base_k}: {other.mean():.3f} s per image; this is {other.sum() / own.sum():.2f}x faster "
            f"(median of the images' ratios {np.median(other / own):.2f}x)"
        )


def figures(device: str) -> Iterator[Figure]:
    """Time, and quality at equal box count, on the first photographs; the device makes no difference."""
    folder = harness.photographs()
    if folder is None:
        yield Figure("selective search", "not measured: no photographs; set RCNN_PHOTOGRAPHS to a COCO folder")
        return
    cv2.setNumThreads(1)
    photos = load(folder, PHOTOS)
    ours(photos[0], FAST_K, None)  # compile, or load compiled code, outside the timing
    with tempfile.TemporaryDirectory() as scratch:
        peer = Peer(sys.executable, photos, Path(scratch))
        pairs = [(ours(photo, FAST_K, None), peer(i, OPENCV_K)) for i, photo in enumerate(photos)]
        peer.close()
    own, other = (statistics.mean(side[1] for side in sides) for sides in zip(*pairs, strict=True))
    ratio = statistics.median(there[1] / here[1] for here, there in pairs)
    what = f"selective search fast, {len(photos)} photographs {WIDTH} px wide, one thread"
    yield Figure(what, f"{own:.3f} s per image", f"OpenCV: {other:.2f} s", ratio, 8)
    cuts = [min(len(here[0]), len(there[0])) for here, there in pairs]
    found = [[side[0][:n] for side, n in zip(sides, cuts, strict=True)] for sides in zip(*pairs, strict=True)]
    measured = [recall_and_overlap(photos, boxes) for boxes in found]
    for name, here, there in zip(("recall at IoU 0.5", "mean best overlap"), *measured, strict=True):
        yield Figure(f"its {name} at equal box count", f"{here:.3f}", f"OpenCV: {there:.3f}", here / there, 1)


def recall_and_overlap(photos: list[Photo], boxes: list[Any]) -> tuple[float, float]:
    """Recall at IoU 0.5 and mean best overlap over all objects."""
    from stages.boxes.recall import average_best_overlap, best_overlaps, recall_at

    overlaps = np.concatenate([best_overlaps(b, p.objects) for b, p in zip(boxes, photos, strict=True)])
    return float(recall_at(overlaps, (0.5,))[0]), float(average_best_overlap(overlaps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="COCO folder: instances.json and images/")
    parser.add_argument("--images", type=int, default=64, help="first so many by file name")
    parser.add_argument("--opencv-python", default=sys.executable, help="interpreter whose cv2 has ximgproc")
    parser.add_argument("--base-k", type=int, nargs="+", default=[OPENCV_K, 50], help="OpenCV's smallest k")
    parser.add_argument("--k", type=int, nargs="+", default=list(FAST_K), help="this side's segmentation scales")
    parser.add_argument("--min-region-px", type=int, help="this side's least region (default: each k; OpenCV has 100)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    if len(sys.argv) == 1 or sys.argv[1] in ("--json", "--device"):
        harness.main(figures)
        return
    arguments = parser.parse_args()
    if arguments.folder is None:
        parser.error("name the folder of photographs")
    if arguments.serve:
        serve(arguments.folder)
        return
    cv2.setNumThreads(1)
    photos = load(arguments.folder, arguments.images)
    with tempfile.TemporaryDirectory() as folder:
        peer = Peer(arguments.opencv_python, photos, Path(folder))
        compare(photos, peer, arguments.base_k, tuple(arguments.k), arguments.min_region_px)
        peer.close()


if __name__ == "__main__":
    main()
