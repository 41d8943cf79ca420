"""Detect objects in one's own photographs: ``python examples/detect_photographs.py PROJECT PHOTOGRAPH...``

PROJECT is a folder in which `dvc repro` has run. `rcnn detect` does the same, and draws.
"""

import sys

from rcnn import Detector


def main(project: str, *photographs: str) -> None:
    """Print what is found in each photograph, best first."""
    detector = Detector.load(project)
    for photograph in photographs:
        for found in detector(photograph):
            x1, y1, x2, y2 = found.box  # pixels from the upper left corner; x2 and y2 are just outside
            print(f"{photograph}: {found.label} {found.score:.2f} at {x1:.0f},{y1:.0f} to {x2:.0f},{y2:.0f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
