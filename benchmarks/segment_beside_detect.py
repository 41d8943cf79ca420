"""`rcnn segment` beside `rcnn detect` on the same images, as a project trained both.

    python -m benchmarks.segment_beside_detect PROJECT [--images 10] [--threads 1]

Both look for the same regions; a fair figure has ``region_features.max_regions`` null, or at least
``proposals.max_proposals``, so that both see as many. Reach: 1.1 times with ``region_features.features: full``, 2.1
times with ``full_fg`` (one more forward pass of each region). The two take turns, image by image; the median ratio is
printed.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from manifests import ImageSource, load_dataset
from pipeline.detectors import Layout
from pipeline.params import load_params
from rcnn import Detector, Segmenter
from stages.segmentation.settings import RegionFeaturesSettings

_REACH = {"full": 1.1, "fg": 1.1, "full_fg": 2.1}


def main() -> None:
    """Time both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    params = load_params(Layout(asked.project))
    features = params.groups.of("region_features", RegionFeaturesSettings)
    detector, segmenter = Detector.load(asked.project, device="cpu"), Segmenter.load(asked.project, device="cpu")
    source = ImageSource.registered(asked.project / "artifacts/datasets" / params.dataset)
    images = load_dataset(asked.project / "artifacts/manifest/manifest.json").split("test")[: asked.images + 1]
    ratios, times = [], []
    for number, image in enumerate(images):
        path = source.root / image.file_name
        seconds = []
        for look in (detector, segmenter):
            begun = time.perf_counter()
            look(path)
            seconds.append(time.perf_counter() - begun)
        if number:  # the first compiles and fills caches
            times.append(seconds)
            ratios.append(seconds[1] / seconds[0])
    detect, segment = (statistics.median(column) for column in zip(*times, strict=True))
    print(
        f"{features.features}, at most {features.max_regions or 'all'} regions: detect {detect:.3f} s, segment "
        f"{segment:.3f} s, median ratio {statistics.median(ratios):.2f} (reach {_REACH[features.features]})"
    )


if __name__ == "__main__":
    main()
