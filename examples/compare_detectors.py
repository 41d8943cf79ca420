"""Compare detectors on a photograph: ``python examples/compare_detectors.py PROJECT PHOTOGRAPH rcnn sppnet``

Each has been run on the project's dataset: `dvc repro`, `dvc repro detectors/sppnet/dvc.yaml`. For tables with
intervals, curves and pictures of all of them: `dvc repro comparison/dvc.yaml`, and reports/comparison/index.html.
"""

import json
import sys
from pathlib import Path

from rcnn import Detector


def main(project: str, photograph: str, *names: str) -> None:
    """Print each detector's mean AP on the test images, and what it finds in the photograph."""
    for name in names:
        reports = Path(project) / "reports" / ("" if name == "rcnn" else name)
        scores = json.loads((reports / "metrics.json").read_text(encoding="utf-8"))
        found = Detector.load(project, name=name)(photograph)
        shown = ", ".join(f"{one.label} {one.score:.2f}" for one in found[:5]) or "nothing"
        print(f"{name}: mAP {scores['voc2010']['mAP']:.3f}; finds {shown}")


if __name__ == "__main__":
    main(*sys.argv[1:])
