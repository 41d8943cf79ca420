"""Writing the dataset's folder: manifest, images, classification set, and where they came from."""

import io
import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cache.errors import DatasetError
from manifests.dataset import Dataset, ImageRecord
from manifests.files import sha256_of, write_with_folders
from manifests.manifest_json import save_dataset

from .classification import classification_set
from .glyphs import GlyphBank, glyph_bank
from .options import CLASSES, SPLITS, SceneOptions
from .scene import Scene, compose

NAME = "scenes"
IMAGES = "images"
CLASSIFICATION = "classification.npz"
JPEG_QUALITY = 95
# Training scene i has id i, test scene i this much more: the number of training scenes never changes a test scene's id.
TEST_IDS_FROM = 100_000
_OURS = re.compile(rf"({'|'.join(SPLITS)})_\d{{5}}\.jpg")


def write_scenes(
    folder: Path, options: SceneOptions, on_scene: Callable[[int, int], None] = lambda done, total: None
) -> Dataset:
    """Make the dataset in ``folder``: ``manifest.json``, ``source.json``, ``images/*.jpg``, ``classification.npz``.

    Equal options give equal bytes (with the same versions of numpy, scipy, Pillow and scikit-learn). Images of an
    earlier run that this one does not make are removed. The manifest is written last. ``on_scene(done, total)`` is
    called after each scene. DatasetError: options that contradict each other.
    """
    problems = options.validate()
    if problems:
        raise DatasetError(problems)
    bank, records = glyph_bank(), []
    counts = {"train": options.n_train, "test": options.n_test}
    for split, count in counts.items():
        for number in range(1, count + 1):
            records.append(_write_scene(folder, split, number, bank, options))
            on_scene(len(records), sum(counts.values()))
    _remove_others(folder / IMAGES, {record.file_name for record in records})
    write_with_folders(folder / CLASSIFICATION, classification_set(bank, options).to_npz())
    source: dict[str, Any] = {"root": ".", "format": NAME, "path": None, "options": asdict(options), "notes": []}
    write_with_folders(folder / "source.json", (json.dumps(source, indent=2) + "\n").encode())
    dataset = Dataset(name=NAME, classes=CLASSES, images=tuple(records))
    save_dataset(dataset, folder / "manifest.json")
    return dataset


def make_scene(split: str, number: int, bank: GlyphBank, options: SceneOptions) -> Scene:
    """Scene ``number`` (from 1) of a split, from a seed of its own: how many scenes there are makes no difference."""
    seeds = np.random.SeedSequence([options.seed, SPLITS.index(split), number])
    return compose(np.random.default_rng(seeds), bank, split, options)


def _write_scene(folder: Path, split: str, number: int, bank: GlyphBank, options: SceneOptions) -> ImageRecord:
    scene = make_scene(split, number, bank, options)
    data = io.BytesIO()
    # No chroma subsampling: it would smear the digits' colours over their edges.
    Image.fromarray(scene.pixels).save(data, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    file_name = f"{IMAGES}/{split}_{number:05d}.jpg"
    write_with_folders(folder / file_name, data.getvalue())
    return ImageRecord(
        id=number + (TEST_IDS_FROM if split == "test" else 0),
        file_name=file_name,
        width=options.width_px,
        height=options.height_px,
        sha256=sha256_of(data.getvalue()),
        split=split,
        boxes=np.array([o.box for o in scene.objects], np.float32).reshape(-1, 4),
        labels=np.array([o.label for o in scene.objects], np.int64),
        difficult=np.array([o.difficult for o in scene.objects], bool),
        truncated=np.array([o.truncated for o in scene.objects], bool),
        details=tuple({"occluded": int(o.occluded), "hidden": round(1 - o.visible, 4)} for o in scene.objects),
    )


def _remove_others(images: Path, made: set[str]) -> None:
    """Delete scenes of an earlier, larger run; files that we never make are left alone."""
    for path in images.iterdir() if images.is_dir() else ():
        if _OURS.fullmatch(path.name) and f"{IMAGES}/{path.name}" not in made:
            path.unlink()
