"""Folders that try to lead a reader, or the store's upkeep, out of themselves; each case returns what is then run."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from dataset_targets import YAML, image_bytes
from hostile_files import npy, npz
from store_cases import STORE_CASES, Case
from store_targets import sample_payload, sample_recipe

_BOX = "<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object>"
_XML = f"<annotation><size><width>12</width><height>10</height></size>{_BOX}</annotation>"


def lay_out_outside(outside: Path) -> None:
    """Files of every kind that a reader would take if it were led to them, and a sound store."""
    import h5py

    from cache import Store

    outside.mkdir()
    (outside / "secret.png").write_bytes(image_bytes())
    (outside / "secret.xml").write_text(_XML, encoding="utf-8")
    (outside / "secret.txt").write_text("0 0.5 0.5 0.4 0.4\n", encoding="utf-8")
    (outside / "list.txt").write_text("a\n", encoding="utf-8")
    (outside / "secret.json").write_text(json.dumps(_coco("a.png")), encoding="utf-8")
    (outside / "secret.yaml").write_bytes(YAML.build({"train": "images", "names": ["cat"]}))
    with h5py.File(outside / "secret.h5", "w") as file:
        file["x"], file["bias"] = np.tile(np.array([0, 0, 5, 5], np.float32), (2, 1)), np.zeros(2, np.float32)
    store = Store(outside / "store")
    store.put(sample_recipe(), sample_payload("zarr"))
    for path in sorted((outside / "store").rglob("*")):
        os.utime(path, (1, 1))


def _coco(name: str) -> dict[str, Any]:
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}
    image = {"id": 1, "file_name": name, "width": 12, "height": 10}
    return {"images": [image], "annotations": [annotation], "categories": [{"id": 1, "name": "cat"}]}


def _voc(inside: Path, xml: Path | None, image: Path | None, split: str | Path) -> Callable[[], object]:
    """A VOC folder of one image ``a``, whose parts are written, or links to the given files."""
    from manifests import read_voc

    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (inside / folder).mkdir(parents=True)
    _put(inside / "Annotations" / "a.xml", xml or _XML.encode())
    _put(inside / "JPEGImages" / "a.png", image or image_bytes())
    _put(inside / "ImageSets" / "Main" / "train.txt", split.encode() if isinstance(split, str) else split)
    return lambda: read_voc(inside)


def _put(path: Path, content: bytes | Path) -> None:
    """A file of these bytes, or a link to this path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path):
        path.symlink_to(content)
    else:
        path.write_bytes(content)


def _coco_named(name: str) -> Case:
    def case(inside: Path, outside: Path) -> Callable[[], object]:
        from manifests import read_coco

        text = json.dumps(_coco(name.replace("OUTSIDE", str(outside))))
        _put(inside / "instances.json", text.encode())
        _put(inside / "images" / "link.png", outside / "secret.png")
        return lambda: read_coco(inside)

    return case


def _coco_link(inside: Path, outside: Path) -> Callable[[], object]:
    from manifests import read_coco

    _put(inside / "images" / "a.png", image_bytes())
    _put(inside / "instances.json", outside / "secret.json")
    return lambda: read_coco(inside)


def _yolo(linked: str, target: str, **described: Any) -> Case:
    """A YOLO folder of which one file is a link to ``target``, and data.yaml holds ``described``."""

    def case(inside: Path, outside: Path) -> Callable[[], object]:
        from manifests import read_yolo

        text = YAML.build({"train": "images", "names": ["cat"]} | described).decode()
        files: dict[str, bytes | Path] = {"images/a.png": image_bytes(), "labels/a.txt": b"0 0.5 0.5 0.4 0.4\n"}
        files |= {"data.yaml": text.replace("OUTSIDE", str(outside)).encode()}
        files["list.txt"] = f"{outside}/secret.png\n../outside/secret.png\nimages/../../outside/secret.png\n".encode()
        if linked:
            files[linked] = outside / target
        if linked == "classes.txt":
            del files["data.yaml"]
        for name, content in files.items():
            _put(inside / name, content)
        return lambda: read_yolo(inside)

    return case


def _manifest(inside: Path, outside: Path) -> Callable[[], object]:
    """A record whose image is a link, read as a stage reads it."""
    from manifests import ImageRecord, ImageSource
    from manifests.files import sha256_of

    _put(inside / "a.png", outside / "secret.png")
    record = ImageRecord(
        1, "a.png", 12, 10, sha256_of(image_bytes()), "train", np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    )
    return lambda: ImageSource(inside).read(record)


def _hdf5_elsewhere(outside: Path, how: str, name: str, shape: tuple[int, ...]) -> Callable[[Any], None]:
    import h5py

    def fill(file: Any) -> None:
        if how == "link":
            file[name] = h5py.ExternalLink(str(outside / "secret.h5"), "/bias" if len(shape) == 1 else "/x")
        elif how == "external":
            file.create_dataset(name, shape, "f4", external=[(str(outside / "secret.h5"), 0, 4096)])
        else:
            layout = h5py.VirtualLayout(shape, "f4")
            layout[...] = h5py.VirtualSource(str(outside / "secret.h5"), "x", shape)
            file.create_virtual_dataset(name, layout)

    return fill


def _proposals(how: str) -> Case:
    def case(inside: Path, outside: Path) -> Callable[[], object]:
        import h5py

        from manifests import ImageRecord
        from stages.proposals.file import read_proposal_file

        images = [
            ImageRecord(1, "a.png", 12, 10, "0" * 64, "train", np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
        ]
        if how == "npz":
            boxes = npy(np.array([[0, 0, 5, 5.0]]))
            names = (f"{outside}/new.npy", "../outside/new.npy", "boxes/../../outside/new.npy", "boxes/a.npy")
            _put(inside / "boxes", npz(dict.fromkeys(names, boxes)))
        else:
            with h5py.File(inside / "boxes", "w") as file:
                _hdf5_elsewhere(outside, how, "boxes/a", (2, 4))(file)
        return lambda: read_proposal_file(inside / "boxes", images)

    return case


def _model(how: str) -> Case:
    def case(inside: Path, outside: Path) -> Callable[[], object]:
        import h5py

        from stages.svm.classifier import Classifier, read_classifier, write_classifier

        weights = np.ones((2, 3), np.float32)
        write_classifier(inside / "m.h5", Classifier("svm", "fc7", ("a", "b"), 1.0, weights, weights[:, 0]))
        with h5py.File(inside / "m.h5", "r+") as file:
            del file["bias"]
            _hdf5_elsewhere(outside, how, "bias", (2,))(file)
        return lambda: read_classifier(inside / "m.h5")

    return case


def _open_outside(inside: Path, outside: Path) -> Callable[[], object]:
    """No case but the proof that the watch sees: what C code opens is seen too."""
    import h5py

    def run() -> None:
        h5py.File(outside / "secret.h5", "r").close()
        (inside / ".." / "elsewhere").mkdir()

    return run


CASES: dict[str, Case] = {
    "open_outside": _open_outside,
    "voc_split_names": lambda i, o: _voc(i, None, None, f"../../outside/secret\n{o}/secret\n"),
    "voc_annotation_link": lambda i, o: _voc(i, o / "secret.xml", None, "a\n"),
    "voc_image_link": lambda i, o: _voc(i, None, o / "secret.png", "a\n"),
    "voc_split_link": lambda i, o: _voc(i, None, None, o / "list.txt"),
    "coco_parent": _coco_named("../../outside/secret.png"),
    "coco_absolute": _coco_named("OUTSIDE/secret.png"),
    "coco_backslash": _coco_named("..\\outside\\secret.png"),
    "coco_drive": _coco_named("C:/outside/secret.png"),
    "coco_nul": _coco_named("a\0b.png"),
    "coco_image_link": _coco_named("link.png"),
    "coco_json_link": _coco_link,
    "yolo_path": _yolo("", "", path="../outside"),
    "yolo_absolute_split": _yolo("", "", train="OUTSIDE"),
    "yolo_parent_split": _yolo("", "", train="../outside"),
    "yolo_list_lines": _yolo("", "", train="list.txt"),
    "yolo_label_link": _yolo("labels/a.txt", "secret.txt"),
    "yolo_image_link": _yolo("images/a.png", "secret.png"),
    "yolo_list_link": _yolo("list.txt", "list.txt", train="list.txt"),
    "yolo_yaml_link": _yolo("data.yaml", "secret.yaml"),
    "yolo_classes_link": _yolo("classes.txt", "list.txt"),
    "manifest_image_link": _manifest,
    "proposals_npz_names": _proposals("npz"),
    "proposals_hdf5_link": _proposals("link"),
    "proposals_hdf5_external": _proposals("external"),
    "proposals_hdf5_virtual": _proposals("virtual"),
    "model_hdf5_link": _model("link"),
    "model_hdf5_external": _model("external"),
    **STORE_CASES,
}
