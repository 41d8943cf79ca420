"""One image's masks given as VOC, COCO and panoptic make the same overlaps, and the same targets by class's name."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mask_files import box, write_coco, write_panoptic, write_voc
from numpy.typing import NDArray

from manifests import ImageSource, ReadOptions, import_dataset
from manifests.masks import read_masks
from stages.regions.image_regions import ImageRegions
from stages.segmentation.overlaps import Overlaps, overlaps_of

NAMES = {1: "aeroplane", 8: "cat", 12: "dog"}
SIDE = 12


def overlaps(kind: str, root: Path, project: Path, regions: ImageRegions) -> tuple[Overlaps, tuple[str, ...]]:
    """Import one image and measure the regions against its masks."""
    options = ReadOptions(segmentation=kind in ("voc", "coco"), images=None if kind == "voc" else str(root / "images"))
    data = import_dataset(kind, root, "one", options, project / "artifacts").dataset
    source = ImageSource.registered(project / "artifacts/datasets/one")
    return overlaps_of(regions, read_masks(source, data.images[0], data.category_ids)), data.classes


def drawn_objects(seed: int) -> tuple[list[tuple[str, int, NDArray[np.bool_]]], NDArray[np.bool_]]:
    """Three blocky objects of any classes, disjoint, and void."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, 5, (SIDE // 3, SIDE // 3)).repeat(3, axis=0).repeat(3, axis=1)
    values = rng.choice(sorted(NAMES), 3)
    found = [(NAMES[int(v)], int(v), numbers == i) for i, v in enumerate(values, start=1) if (numbers == i).any()]
    return found, numbers == 4


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 10**6))
def test_voc_coco_and_panoptic_make_the_same_overlaps(seed: int) -> None:
    objects, void = drawn_objects(seed)
    assume(objects)
    assert all(min(x2 - x1, y2 - y1) > 1 for x1, y1, x2, y2 in (box(mask) for _, _, mask in objects))
    corners = np.random.default_rng(seed).integers(0, SIDE - 1, (6, 2))
    boxes = np.concatenate([corners, corners + 1 + np.random.default_rng(seed + 1).integers(0, 8, (6, 2))], axis=1)
    arrays = {"boxes": np.minimum(boxes, SIDE).astype(np.float32), "working_size": np.array([SIDE, SIDE])}
    regions = ImageRegions(arrays, SIDE, SIDE)
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        forms = {"voc": write_voc, "coco": write_coco, "panoptic": write_panoptic}
        found = {
            kind: overlaps(kind, write(top / kind, objects, void), top / f"p_{kind}", regions)
            for kind, write in forms.items()
        }
    slow = [
        [(inside & mask).sum() / max(((inside | mask) & ~void).sum(), 1) for _, _, mask in objects]
        for inside in (regions.mask(i) & ~void for i in range(len(regions)))
    ]
    for kind, (one, classes) in found.items():
        np.testing.assert_allclose(one.iou, np.array(slow), rtol=1e-6, err_msg=kind)
        targets = one.targets(None, len(classes))
        for label in {name for name, _, _ in objects}:
            of_class = [i for i, (name, _, _) in enumerate(objects) if name == label]
            expected = np.array(slow)[:, of_class].max(axis=1)
            np.testing.assert_allclose(targets[len(objects) :, classes.index(label)], expected, rtol=1e-6)
