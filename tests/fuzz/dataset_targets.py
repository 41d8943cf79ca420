"""The annotation readers, the dataset manifest and the image decoder."""

import io
import json
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml
from mutations import JSON, Tree
from targets import Target, tolerant

from manifests import load_dataset, save_dataset

_MAX_PIXELS = 1 << 20  # so that the bound on memory is felt; the default is the same check with a larger figure
_BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>8</ymax></bndbox>"
_OBJECT = f"<object><name>cat</name><difficult>0</difficult><pose>Left</pose>{_BOX}</object>"
_XML = f"<annotation><size><width>12</width><height>10</height></size>{_OBJECT}</annotation>".encode()
_ENTITIES = b'<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;">]><annotation>&c;&c;&c;</annotation>'
_OUTSIDE = b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><annotation>&x;</annotation>'

_IMAGE = {"id": 1, "file_name": "a.png", "width": 12, "height": 10}
_COCO: dict[str, Any] = {
    "images": [_IMAGE, {**_IMAGE, "id": 2, "file_name": "b.png"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0}
        | {"segmentation": [[1, 1, 6, 1, 6, 6]], "difficult": 0, "truncated": 1, "pose": "x", "occluded": 0},
        {"id": 2, "image_id": 2, "category_id": 3, "bbox": [0.5, 0, 4, 4], "area": 3.0, "iscrowd": 1}
        | {"segmentation": {"counts": [0, 120], "size": [10, 12]}},
    ],
    "categories": [{"id": 3, "name": "cat"}],
}
_PANOPTIC: dict[str, Any] = {
    "images": _COCO["images"],
    "annotations": [
        {"image_id": i, "file_name": f"{name}.png", "segments_info": [{"id": 1, "category_id": 3, "iscrowd": 0}]}
        for i, name in ((1, "a"), (2, "b"))
    ],
    "categories": [{"id": 3, "name": "cat", "isthing": 1}],
}
_YAML = {"path": ".", "train": "images", "val": ["images"], "nc": 1, "names": ["cat"]}
YAML_BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n" % (k, k, *[k - 1] * 9) for k in range(ord("b"), ord("k"))
)
_SOURCE = {"root": "../../../images", "format": "coco", "path": "../x", "notes": ["n"]}
_OPTIONS = {"classes": ["cat"], "on_error": "stop", "images": None, "fractions": {"train": 0.5, "test": 0.5}}
_LIMITS = {"seed": 0, "tolerance_px": 2.0, "max_pixels": 1000}


# libyaml's are ten times as fast
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def _parse_yaml(data: bytes) -> Any:
    try:
        return yaml.load(data, _LOADER)
    except (yaml.YAMLError, AttributeError) as error:
        raise ValueError(str(error)) from error


def _build_yaml(tree: Any) -> bytes:
    text: str = yaml.dump(tree, Dumper=_DUMPER)
    return text.encode("utf-8", "replace")


YAML = Tree(_parse_yaml, _build_yaml)


def image_bytes(form: str = "PNG", mode: str = "RGB", **save: object) -> bytes:
    """A 12 x 10 picture."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new(mode, (12, 10), 1).save(buffer, form, **save)
    return buffer.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes whose header, with a right checksum, claims any size."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(9999))))
    body = (
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in (*chunks, (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def _images(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("a", "b"):
        (folder / f"{name}.png").write_bytes(image_bytes())


def _reading(reader: str, root: Path, file: Path) -> Callable[[bytes], None]:
    """The reader on ``root`` with the bytes as ``file``, once for each of its ways to treat a problem."""
    import manifests

    read = getattr(manifests, reader)
    both = [manifests.ReadOptions(on_error=how, max_pixels=_MAX_PIXELS) for how in ("stop", "skip")]

    def check(options: Any, _: bytes) -> None:
        _registered(read(root, options)[0])

    def run(data: bytes) -> None:
        file.write_bytes(data)
        for options in both:
            tolerant(partial(check, options))(b"")

    return run


def _registered(dataset: Any) -> None:
    """What was read can be kept: its manifest is written and read again."""
    from manifests.manifest_json import dataset_from_json, dataset_to_json

    text = dataset_to_json(dataset)
    assert dataset_to_json(dataset_from_json(text, "manifest.json")) == text


def _voc(file: str) -> Callable[[Path], Callable[[bytes], None]]:
    def prepare(root: Path) -> Callable[[bytes], None]:
        _images(root / "JPEGImages")
        (root / "Annotations").mkdir()
        (root / "ImageSets" / "Main").mkdir(parents=True)
        for name in ("a", "b"):
            (root / "Annotations" / f"{name}.xml").write_bytes(_XML)
        (root / "ImageSets" / "Main" / "train.txt").write_text("a\n", encoding="utf-8")
        return _reading("read_voc", root, root / file)

    return prepare


def _coco(root: Path) -> Callable[[bytes], None]:
    _images(root / "images")
    return _reading("read_coco", root, root / "instances.json")


def _yolo(file: str) -> Callable[[Path], Callable[[bytes], None]]:
    def prepare(root: Path) -> Callable[[bytes], None]:
        _images(root / "images")
        (root / "labels").mkdir()
        described = {**_YAML, "train": "train.txt"} if file == "train.txt" else _YAML
        (root / "data.yaml").write_bytes(YAML.build(described))
        (root / "labels" / "a.txt").write_text("0 0.5 0.5 0.4 0.4\n", encoding="utf-8")
        return _reading("read_yolo", root, root / file)

    return prepare


def _panoptic(root: Path) -> Callable[[bytes], None]:
    _images(root / "images")
    (root / "masks").mkdir()
    for name in ("a", "b"):
        (root / "masks" / f"{name}.png").write_bytes(image_bytes())
    return _reading("read_panoptic", root, root / "panoptic.json")


def _label_map(root: Path) -> Callable[[bytes], None]:
    from manifests.masks import read_label_map, read_panoptic_map

    readers = [tolerant(partial(reader, name="x")) for reader in (read_label_map, read_panoptic_map)]

    def read(data: bytes) -> None:
        for reader in readers:
            reader(data)

    return read


def _sbd(root: Path) -> Callable[[bytes], None]:
    from manifests.masks.mat_file import read_sbd

    return tolerant(lambda data: read_sbd(data, "x"))


def _sbd_seeds() -> list[bytes]:
    from mask_files import sbd_mat

    labels = np.zeros((10, 12), np.uint8)
    labels[2:5, 3:8], labels[6:, 1:4] = 1, 2
    return [sbd_mat(labels, [3, 4]), sbd_mat(labels, [3, 4], compress=False), sbd_mat(labels, [3, 4], version="7.3")]


def _ilsvrc_meta(root: Path) -> Callable[[bytes], None]:
    from manifests.readers.ilsvrc_layout import read_classes

    def read(data: bytes) -> None:
        (root / "meta_det.mat").write_bytes(data)
        read_classes(root / "meta_det.mat")

    return tolerant(read)


def _ilsvrc_meta_seeds() -> list[bytes]:
    from ilsvrc_tree import save_meta

    with TemporaryDirectory() as folder:
        path = Path(folder) / "meta_det.mat"
        save_meta(path, ["cat", "dog"])
        return [path.read_bytes()]


def _manifest(root: Path) -> Callable[[bytes], None]:
    from manifests import ImageRecord, ImageSource

    _images(root / "images")
    source, file = ImageSource(root / "images"), root / "manifest.json"

    def pixels_of(record: ImageRecord, _: bytes) -> None:
        source.read(record)

    def read(data: bytes) -> None:
        file.write_bytes(data)
        dataset = load_dataset(file)
        save_dataset(dataset, file)
        for record in dataset.images[:3]:
            tolerant(partial(pixels_of, record))(b"")

    return tolerant(read)


def _manifest_seeds() -> list[bytes]:
    from manifests.files import sha256_of

    sha = {"sha256": sha256_of(image_bytes()), "split": "train", "splits": ["train"]}
    info = {"info": {"name": "d", "manifest_version": 1}}
    return [json.dumps(info | _COCO | {"images": [i | sha for i in _COCO["images"]]}).encode()]


def _source(root: Path) -> Callable[[bytes], None]:
    from manifests import ReadOptions
    from manifests.source import read_source

    def read(data: bytes) -> None:
        (root / "source.json").write_bytes(data)
        ReadOptions.from_json(read_source(root).options)

    return tolerant(read)


def _image(root: Path) -> Callable[[bytes], None]:
    from manifests import decode_image

    return tolerant(lambda data: decode_image(data, "x", max_pixels=_MAX_PIXELS))


def _image_seeds() -> list[bytes]:
    plain = [image_bytes(form) for form in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")]
    modes = [image_bytes("PNG", mode) for mode in ("1", "L", "P", "RGBA", "I;16", "LA")]
    more = [image_bytes("JPEG", "CMYK"), image_bytes("TIFF", "F"), image_bytes("TIFF", compression="tiff_lzw")]
    claims = [png_claiming(2**31 - 1, 2**31 - 1), png_claiming(30_000, 30_000), png_claiming(1 << 20, 1)]
    return [*plain, *modes, *more, *claims]


_JSON_TOKENS = (b"null", b"1e999", b"NaN", b"[" * 2000, b'"\\ud800"', b"-1", b'"../../x"', b"9" * 5000)
_XML_TOKENS = (b"<object>", b"<name>", b"<bndbox>", b"<!DOCTYPE", b"<!ENTITY", b"]]>", b"nan", b"1e400", b"<a>" * 500)
_HEX = b"0x" + b"f" * 5000  # an integer that Python will not write in decimal
_PATH_TOKENS = (b"../", b"/etc/hostname", b"\0", b"\\", b"C:", b"\xff", b"\r", b"a 1", b"..")

DATASET_TARGETS = (
    Target("voc_xml", _voc("Annotations/a.xml"), lambda: [_XML, _ENTITIES, _OUTSIDE], _XML_TOKENS),
    Target(
        "voc_split",
        _voc("ImageSets/Main/train.txt"),
        lambda: [b"a\n", b"a\nb\n", b"../../a\n", b"a -1\n"],
        _PATH_TOKENS,
    ),
    Target("coco_json", _coco, lambda: [json.dumps(_COCO).encode()], _JSON_TOKENS, JSON),
    Target(
        "yolo_yaml",
        _yolo("data.yaml"),
        lambda: [YAML.build(_YAML), YAML_BOMB],
        (*_PATH_TOKENS, b"!!python/", b"*a", _HEX),
        YAML,
    ),
    Target(
        "yolo_labels",
        _yolo("labels/a.txt"),
        lambda: [b"0 0.5 0.5 0.4 0.4\n", b"0 0.1 0.1 0.4 0.1 0.4 0.5\n"],
        (b"nan", b"1e400", b"-1", b"\xc2\xb2", b"9" * 5000),
    ),
    Target("yolo_list", _yolo("train.txt"), lambda: [b"images/a.png\n./images/b.png\n"], _PATH_TOKENS),
    Target("dataset_manifest", _manifest, _manifest_seeds, _JSON_TOKENS, JSON),
    Target(
        "dataset_source", _source, lambda: [json.dumps(_SOURCE | {"options": _OPTIONS | _LIMITS}).encode()], (), JSON
    ),
    Target("panoptic_json", _panoptic, lambda: [json.dumps(_PANOPTIC).encode()], _JSON_TOKENS, JSON),
    Target("label_map", _label_map, _image_seeds, (b"IHDR", b"IDAT", b"PLTE", b"tRNS")),
    Target(
        "ilsvrc_meta", _ilsvrc_meta, _ilsvrc_meta_seeds, (b"\0\1IM", b"\x0e\0\0\0", b"\x0f\0\0\0", b"\xff\xff\xff\x7f")
    ),
    Target("sbd_mat", _sbd, _sbd_seeds, (b"\0\1IM", b"\0\2IM", b"\x0e\0\0\0", b"\x0f\0\0\0", b"\xff\xff\xff\x7f")),
    Target("image", _image, _image_seeds, (b"IHDR", b"IDAT", b"\xff\xd8", b"\xff\xc0", b"Exif\0\0", b"II*\0")),
)
