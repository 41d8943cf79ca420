"""Folders that try to lead a reader, or the store's upkeep, out of themselves; each case returns what is then run."""

import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from dataset_targets import YAML, image_bytes
from model_targets import npy, npz
from store_targets import _object_files, _payload, sealed

Case = Callable[[Path, Path], Callable[[], object]]
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
    store.put(_recipe(), _payload("zarr"))
    for path in sorted((outside / "store").rglob("*")):
        os.utime(path, (1, 1))


def _recipe() -> Any:
    from cache import Recipe

    return Recipe("proposals", 1, {"method": "x"}, {"image": "0" * 64})


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
    record = ImageRecord(1, "a.png", 12, 10, sha256_of(image_bytes()), "train", np.zeros((0, 4)), np.zeros(0))
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
        from stages.proposals.proposal_file import read_proposal_file

        images = [ImageRecord(1, "a.png", 12, 10, "0" * 64, "train", np.zeros((0, 4)), np.zeros(0))]
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

        from stages.common.models import Classifier, read_classifier, write_classifier

        weights = np.ones((2, 3), np.float32)
        write_classifier(inside / "m.h5", Classifier("svm", "fc7", ("a", "b"), 1.0, weights, weights[:, 0]))
        with h5py.File(inside / "m.h5", "r+") as file:
            del file["bias"]
            _hdf5_elsewhere(outside, how, "bias", (2,))(file)
        return lambda: read_classifier(inside / "m.h5")

    return case


@contextlib.contextmanager
def _arguments(*arguments: str) -> Iterator[None]:
    before, sys.argv = sys.argv, ["rcnn", *arguments]
    try:
        yield
    finally:
        sys.argv = before


def _upkeep(inside: Path) -> Callable[[], object]:
    """Every command that goes through the store, as the command line runs it, and the reading of an object."""
    from cache import Store
    from pipeline import cli

    (inside / "params.yaml").write_text("{}\n", encoding="utf-8")
    key = _object_files("zarr")[0]
    commands = [("ls",), ("ls", "proposals"), ("du",), ("show", key[:8]), ("verify",), ("verify", "--quarantine")]
    commands += [("gc", "--delete", "--grace", "0"), ("gc", "--delete", "--workspace", "--grace", "0")]

    def run() -> str:
        from pipeline.errors import USER_ERRORS

        said = io.StringIO()
        store = Store(inside / "artifacts")
        for command in commands:
            if "--quarantine" in command:
                for read in (lambda: store.missing("proposals", [key]), lambda: store.get("proposals", key)):
                    with contextlib.suppress(*USER_ERRORS):
                        read()
            with (
                _arguments("-C", str(inside), "cache", *command),
                contextlib.suppress(SystemExit),
                contextlib.redirect_stdout(said),
                contextlib.redirect_stderr(said),
            ):
                cli.main()
        with contextlib.suppress(*USER_ERRORS):
            store.put(_recipe(), _payload("zarr"))
        assert "Traceback" not in said.getvalue(), said.getvalue()
        return said.getvalue()

    return run


def _linked_store(at: str, to: str) -> Case:
    """A store that holds one old object and in which ``at`` is a link to ``to``; KEY and SHARD are the object's."""

    def case(inside: Path, outside: Path) -> Callable[[], object]:
        from cache import Store

        key, shard = _object_files("zarr")[0], _object_files("zarr")[0][:2]
        root = inside / "artifacts"
        Store(root).put(_recipe(), _payload("zarr"))
        for folder in ("refs", "tmp", "quarantine"):
            (root / folder).mkdir(exist_ok=True)
        for path in sorted(root.rglob("*")):
            os.utime(path, (1, 1))
        link = root / at.replace("SHARD", shard).replace("KEY", key)
        if link.is_dir():
            shutil.rmtree(link)
        link.unlink(missing_ok=True)
        link.symlink_to(outside / to.replace("SHARD", shard).replace("KEY", key))
        os.utime(link, (1, 1), follow_symlinks=False)
        return _upkeep(inside)

    return case


def _sealed_names(inside: Path, outside: Path) -> Callable[[], object]:
    """An object whose record, with a right checksum, names files outside."""
    from cache import Store

    key, files = _object_files("zarr")
    folder = Store(inside / "artifacts").path("proposals", key)
    Store(inside / "artifacts").put(_recipe(), _payload("zarr"))
    body = json.loads(files["object.json"])
    spec = body["files"]["data.zarr/zarr.json"]
    named = {"../../../../../outside/secret.txt": spec, str(outside / "secret.txt"): spec}
    (folder / "object.json").chmod(0o644)
    (folder / "object.json").write_bytes(sealed(body | {"files": named}))
    return _upkeep(inside)


def _open_outside(inside: Path, outside: Path) -> Callable[[], object]:
    """No case but the proof that the watch sees: what C code opens is seen too."""
    import h5py

    def run() -> None:
        h5py.File(outside / "secret.h5", "r").close()
        (inside / ".." / "elsewhere").mkdir()

    return run


_OBJECT = "store/objects/proposals/SHARD/KEY"
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
    "store_sealed_names": _sealed_names,
    "store_json": _linked_store("store.json", "store/store.json"),
    "store_objects": _linked_store("objects", "store/objects"),
    "store_stage": _linked_store("objects/proposals", "store/objects/proposals"),
    "store_other_stage": _linked_store("objects/features", "store/objects/proposals"),
    "store_shard": _linked_store("objects/proposals/SHARD", "store/objects/proposals/SHARD"),
    "store_object": _linked_store("objects/proposals/SHARD/KEY", _OBJECT),
    "store_record": _linked_store("objects/proposals/SHARD/KEY/object.json", f"{_OBJECT}/object.json"),
    "store_payload": _linked_store("objects/proposals/SHARD/KEY/data.zarr", f"{_OBJECT}/data.zarr"),
    "store_extra_file": _linked_store("objects/proposals/SHARD/KEY/extra", "secret.txt"),
    "store_tmp_entry": _linked_store("tmp/old", "store"),
    "store_tmp": _linked_store("tmp", "store"),
    "store_quarantine_entry": _linked_store("quarantine/old", "store"),
    "store_quarantine": _linked_store("quarantine", "store"),
    "store_reference": _linked_store(f"refs/proposals-{'a' * 64}.json", "secret.json"),
    "store_refs": _linked_store("refs", "store"),
}
