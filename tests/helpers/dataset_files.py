"""Files of small datasets: pictures and VOC's XML."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from manifests import ReadOptions, import_dataset


def jpeg(width: int = 40, height: int = 30, seed: int = 0, **save: Any) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **save)
    return buffer.getvalue()


def voc_object(label: str, box: Sequence[float], extra: str = "") -> str:
    corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{label}</name>{extra}<bndbox>{corners}</bndbox></object>"


def voc_xml(objects: str, width: int = 40, height: int = 30) -> str:
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>x.jpg</filename>{size}{objects}</annotation>"


def put(root: Path, files: Mapping[str, bytes | str]) -> Path:
    """Write files, with the folders that they are in, below ``root``; returns it."""
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return root


def imported_pets(project: Path) -> Path:
    """Import a dataset ``pets`` of four class folders' pictures, which lie in the project's ``data``; returns that."""
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            path = project / "data" / split / name / f"{split}.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(np.full((30, 40, 3), len(name), np.uint8)).save(path)
    import_dataset("folders", project / "data", "pets", ReadOptions(), project / "artifacts")
    return project / "data"
