"""``rcnn dataset import`` of every form with masks, by its options; ``show``, ``refresh``, and errors of one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import jpeg, put
from mask_files import sbd_mat, write_coco, write_panoptic, write_voc

from manifests import load_registered
from manifests.masks import label_map_png

Run = Callable[..., tuple[int, str, str]]

SHAPE = (12, 16)
CAT = np.zeros(SHAPE, bool)
CAT[2:8, 3:9] = True
VOID = np.zeros(SHAPE, bool)
VOID[8, 3:9] = True
OBJECTS = [("cat", 8, CAT)]


def masks_folder(root: Path) -> Path:
    labels = np.where(VOID, 9, np.where(CAT, 1, 0)).astype(np.uint8)
    files: dict[str, bytes | str] = {"names.txt": "background\ncat\n", "masks/a.png": label_map_png(labels)}
    return put(root, {**files, "images/a.jpg": jpeg(SHAPE[1], SHAPE[0])})


def sbd_folder(root: Path) -> Path:
    return put(
        root,
        {
            "inst/a.mat": sbd_mat(CAT.astype(np.uint8), [8]),
            "img/a.jpg": jpeg(SHAPE[1], SHAPE[0]),
            "train.txt": "a\n",
        },
    )


FORMS: dict[str, tuple[Callable[[Path], Path], list[str]]] = {
    "voc": (lambda root: write_voc(root, OBJECTS, VOID), ["--segmentation"]),
    "coco": (lambda root: write_coco(root, OBJECTS, VOID), ["--segmentation"]),
    "panoptic": (lambda root: write_panoptic(root, OBJECTS, VOID), ["--stuff", "background"]),
    "masks": (masks_folder, ["--void", "9"]),
    "sbd": (sbd_folder, []),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_dataset_with_masks(run: Run, project: Path, form: str) -> None:
    """Imported, shown with its pixels, and read again as it was."""
    write, options = FORMS[form]
    folder = write(project / "data")
    code, out, err = run("-C", project, "dataset", "import", form, folder, "--name", "cats", *options)
    assert code == 0, err
    assert "cats: 1 images" in out
    manifest = project / "artifacts/datasets/cats/manifest.json"
    assert json.loads(manifest.read_text())["info"]["manifest_version"] == 4
    code, out, err = run("-C", project, "dataset", "show", "cats")
    assert code == 0, err
    rows = {line.split()[0]: line.split() for line in out.split("\npixels")[1].splitlines()[1:] if line}
    assert rows["cat"][-3] == str(CAT.sum())
    assert rows["void"][-3] == ("0" if form == "sbd" else str(VOID.sum()))
    assert (project / "reports/dataset-cats.png").stat().st_size > 0
    before = manifest.read_bytes()
    assert run("-C", project, "dataset", "refresh", "cats")[0] == 0
    assert manifest.read_bytes() == before
    source = load_registered("cats", project / "artifacts").source
    assert source.format == form


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["masks", "data", "--void", "much"], "'much' is not a value from 0 to 255, nor none"),
        (["masks", "data", "--void", "300"], "void: 300 is not a value from 0 to 255, nor none"),
        (["masks", "data", "--shift", "999"], "shift: 999 is not in [-255, 255]"),
        (["masks", "data", "--masks", "elsewhere"], "elsewhere: there is no such folder; give the folder of the masks"),
        (["masks", "data"], "masks/a.png: has the value 9, which no class has"),
        (["panoptic", "data"], "holds no JSON file; give the path of the one with the segments"),
        (["sbd", "data"], "has no inst/ with SBD's .mat files"),
        (["voc", "data", "--segmentation"], "has no Annotations/ and JPEGImages/"),
    ],
)
def test_wrong_options_are_told_in_one_line(run: Run, project: Path, arguments: list[Any], match: str) -> None:
    masks_folder(project / "data")
    given = [project / one if one in ("data", "elsewhere") else one for one in arguments]
    code, _, err = run("-C", project, "dataset", "import", *given, "--name", "cats")
    assert code == 2 and match in err
    assert "Traceback" not in err and not (project / "artifacts/datasets/cats").exists()


def test_a_changed_mask_stops_show(run: Run, project: Path) -> None:
    folder = masks_folder(project / "data")
    assert run("-C", project, "dataset", "import", "masks", folder, "--name", "cats", "--void", "9")[0] == 0
    (folder / "masks/a.png").write_bytes(label_map_png(np.zeros(SHAPE, np.uint8)))
    code, _, err = run("-C", project, "dataset", "show", "cats")
    assert code == 2 and err.count("\n") == 1
    assert "masks/a.png: the file in" in err and "`rcnn dataset refresh cats`" in err
