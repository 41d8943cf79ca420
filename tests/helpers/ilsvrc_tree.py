"""Made-up trees of ILSVRC's detection data, in the layout of 2013 and in that of 2014 and later."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from dataset_files import put, voc_object, voc_xml
from scipy.io import savemat

LAYOUTS = ("2013", "2014")


@dataclass(frozen=True)
class Shown:
    """A picture's bytes, and its objects: class names and 1-based boxes; None: it has no XML file."""

    data: bytes
    objects: Sequence[tuple[str, Sequence[float]]] | None
    width: int = 40
    height: int = 30


@dataclass(frozen=True)
class Tree:
    """What a tree holds: pictures by split and name; for each class the train pictures with their flags (1, 0, -1).

    ``lists``: further lists, names by list. ``blacklist``: lines of val's. ``left_out``: names of train's blacklist.
    """

    classes: Sequence[str]
    pictures: Mapping[str, Mapping[str, Shown]]
    flags: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    lists: Mapping[str, Sequence[str]] = field(default_factory=dict)
    blacklist: str = ""
    left_out: Sequence[str] = ()


def wnid(tree: Tree, name: str) -> str:
    return f"n{tree.classes.index(name) + 1:08d}" if name in tree.classes else name


def save_meta(path: Path, classes: Sequence[str]) -> None:
    """Write meta_det.mat; as the devkit's, it has inner nodes of the hierarchy behind the classes."""
    kinds = [("ILSVRC2013_DET_ID", object), ("WNID", object), ("name", object), ("description", object)]
    rows = [(number, f"n{number:08d}", name, "") for number, name in enumerate(classes, 1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"synsets": np.array([*rows, (201, "n99999999", "entity", "")], dtype=kinds)})


def write_tree(root: Path, layout: str, tree: Tree) -> Path:
    """Write a tree; returns its folder."""
    is_2013 = layout == "2013"
    devkit = "ILSVRC2013_devkit/data" if is_2013 else "devkit/data"
    at = f"{devkit}/det_lists" if is_2013 else "ImageSets/DET"
    files: dict[str, bytes | str] = {}
    for split, shown in tree.pictures.items():
        images = f"ILSVRC2013_DET_{split}" if is_2013 else f"Data/DET/{split}"
        xml = f"ILSVRC2013_DET_bbox_{split}" if is_2013 else f"Annotations/DET/{split}"
        for name, one in shown.items():
            folder = "n00000001/" if split == "train" else ""
            files[f"{images}/{folder}{name}.JPEG"] = one.data
            if one.objects is not None:
                objects = "".join(voc_object(wnid(tree, label), box) for label, box in one.objects)
                files[f"{xml}/{folder}{name}.xml"] = voc_xml(objects, one.width, one.height)
        if split != "train":
            files[f"{at}/{split}.txt"] = "".join(f"{name} {n}\n" for n, name in enumerate(shown, 1))
    for label, flags in tree.flags.items():
        number = tree.classes.index(label) + 1
        lines = {flag: [f"n00000001/{name}" for name, own in flags.items() if own == flag] for flag in (1, 0, -1)}
        if is_2013:
            for kind, flag in (("pos", 1), ("part", 0), ("neg", -1)):
                files[f"{at}/train_{kind}_{number}.txt"] = "".join(f"{name} 1\n" for name in lines[flag])
        else:
            text = "".join(f"{name} {flag}\n" for flag, names in lines.items() for name in names)
            files[f"{at}/train_{number}.txt"] = text
    if tree.left_out:  # it lies in the devkit, later too
        files[f"{devkit}/det_lists/train_blacklist.txt"] = "".join(f"{name}\n" for name in tree.left_out)
    if is_2013:  # of the real devkit's lists that join those of all classes
        named = [name for flags in tree.flags.values() for name, flag in flags.items() if flag == 1]
        files[f"{at}/train_posall.txt"] = "".join(f"n00000001/{name} 1\n" for name in dict.fromkeys(named))
    for name, members in tree.lists.items():
        files[f"{at}/{name}.txt"] = "".join(f"{member} {n}\n" for n, member in enumerate(members, 1))
    if tree.blacklist:
        files[f"{devkit}/ILSVRC2013_det_validation_blacklist.txt"] = tree.blacklist
    put(root, files)
    save_meta(root / devkit / "meta_det.mat", tree.classes)
    return root
