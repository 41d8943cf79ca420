"""``rcnn detect``."""

import json
from pathlib import Path
from typing import Any

import click

from cache import atomic_write
from manifests import DatasetError, decode_image
from pipeline.detector import Detection, Detector
from pipeline.drawing import draw
from pipeline.progress import Reporter
from stages.common.errors import StageError

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"})


@click.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE|FOLDER...")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
@click.option("--min-score", type=float, help="Only detections that score at least this.  [default: 0; softmax: 0.5]")
@click.option("--no-bbox", is_flag=True, help="Without bounding-box regression.")
@click.pass_obj
def detect(project: Path, images: tuple[Path, ...], out: Path, min_score: float | None, no_bbox: bool) -> None:
    """Detect objects in images, or in all images of folders, with the detector trained last.

    Writes each image with its detections drawn, and detections.json: COCO results with the file's name added to each.
    An image that cannot be read is named at the end (exit code 2); the others are done all the same.
    """
    files = _files(images)
    detector = Detector.load(project)
    log = Reporter("detect")
    out.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    problems: list[str] = []
    for number, (path, name) in enumerate(files, 1):
        try:
            found = detector(path, min_score=min_score, box_regression=not no_bbox)
            pixels = decode_image(path.read_bytes(), str(path))
        except DatasetError as error:
            problems.append(str(error))
            continue
        draw(pixels, found, detector.classes, out / name.with_suffix(".jpg"))
        results += [_result(number, path, d, detector.category_ids[d.label]) for d in found]
        log.progress(number, len(files), "images", f"{len(results)} detections")
    atomic_write(out / "detections.json", (json.dumps(results, indent=1) + "\n").encode())
    click.echo(f"{len(results)} detections in {len(files) - len(problems)} images: {out / 'detections.json'}")
    if problems:
        raise StageError("\n".join(problems))


def _files(given: tuple[Path, ...]) -> list[tuple[Path, Path]]:
    """(file, name of its picture under the output folder) of every image, in order, no two of one name."""
    found: list[tuple[Path, Path]] = []
    for path in given:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
            if not inside:
                raise StageError(f"{path}: no images in this folder ({', '.join(sorted(_SUFFIXES))})")
            found += [(p, p.relative_to(path)) for p in inside]
        elif path.is_file():
            found.append((path, Path(path.name)))
        else:
            raise StageError(f"{path}: no such file or folder; check the path")
    taken: set[Path] = set()
    named = []
    for path, name in found:
        unique, count = name, 1
        while unique.with_suffix("") in taken:
            count += 1
            unique = name.with_name(f"{name.stem}-{count}{name.suffix}")
        taken.add(unique.with_suffix(""))
        named.append((path, unique))
    return named


def _result(number: int, path: Path, found: Detection, category_id: int) -> dict[str, Any]:
    x1, y1, x2, y2 = found.box
    return {
        "image_id": number,
        "category_id": category_id,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "score": found.score,
        "category": found.label,
        "file_name": str(path),
    }
