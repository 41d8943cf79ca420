"""Writing the dataset's folder: manifest, images, masks, classification set, and where they came from."""

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
from manifests.dataset import Dataset, ImageRecord, MaskSource
from manifests.files import sha256_of, write_with_folders
from manifests.manifest_json import save_dataset
from manifests.masks import label_map_png

from .classification import classification_set
from .glyphs import GlyphBank, glyph_bank
from .options import CLASSES, SPLITS, SceneOptions
from .scene import Scene, compose

NAME = "scenes"
IMAGES = "images"
CLASS_MAPS, OBJECT_MAPS = "SegmentationClass", "SegmentationObject"  # VOC's names
CLASSIFICATION = "classification.npz"
JPEG_QUALITY = 95
# Training scene i has id i, test scene i this much more: the number of training scenes never changes a test scene's id.
TEST_IDS_FROM = 100_000
_OURS = re.compile(rf"({'|'.join(SPLITS)})_\d{{5}}")
_SUFFIXES = {IMAGES: ".jpg", CLASS_MAPS: ".png", OBJECT_MAPS: ".png"}


def write_scenes(
    folder: Path, options: SceneOptions, on_scene: Callable[[int, int], None] = lambda done, total: None
) -> Dataset:
    """Make the dataset in ``folder``: ``manifest.json``, ``source.json``, ``images/*.jpg``, ``classification.npz``.

    A scene's masks are in VOC's form, ``SegmentationClass/*.png`` and ``SegmentationObject/*.png``: each digit's ink
    that nothing hides, without any void pixel.

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
    made = {name for record in records for name in (record.file_name, *_mask_names(record.file_name))}
    _remove_others(folder, made)
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
    masks = _write_masks(folder, file_name, scene)
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
        details=tuple(
            {"occluded": int(o.occluded), "hidden": round(1 - o.visible, 4), "mask": number}
            for number, o in enumerate(scene.objects, start=1)
        ),
        masks=masks,
    )


def _mask_names(file_name: str) -> tuple[str, str]:
    """A scene's class map and object map."""
    name = Path(file_name).with_suffix(".png").name
    return f"{CLASS_MAPS}/{name}", f"{OBJECT_MAPS}/{name}"


def _write_masks(folder: Path, file_name: str, scene: Scene) -> MaskSource:
    """Write a scene's two maps; where two digits' ink overlaps (some is translucent) the later one lies on top."""
    classes, numbers = (np.zeros(scene.pixels.shape[:2], np.uint8) for _ in range(2))
    for number, (item, visible) in enumerate(zip(scene.objects, scene.masks, strict=True), start=1):
        classes[visible], numbers[visible] = item.label + 1, number
    names, files = _mask_names(file_name), [label_map_png(labels) for labels in (classes, numbers)]
    for name, data in zip(names, files, strict=True):
        write_with_folders(folder / name, data)
    class_sha256, object_sha256 = map(sha256_of, files)
    return MaskSource("voc", names[0], class_sha256, names[1], object_sha256)


def _remove_others(folder: Path, made: set[str]) -> None:
    """Delete scenes, and their masks, of an earlier, larger run; files that we never make are left alone."""
    for part, suffix in _SUFFIXES.items():
        for path in (folder / part).iterdir() if (folder / part).is_dir() else ():
            if path.suffix == suffix and _OURS.fullmatch(path.stem) and f"{part}/{path.name}" not in made:
                path.unlink()
