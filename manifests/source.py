"""Where a registered dataset came from (``source.json``), and its images read from there."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.errors import DatasetError, MissingFileError
from cache.experiments import original

from .dataset import ImageRecord
from .files import Archive, read_bytes, read_inside, sha256_of
from .images import HARD_MAX_PIXELS, Pixels, decode_image


class ImageSource:
    """Reads a dataset's images from below ``root``, and refuses a file that changed since the manifest was made.

    ``root`` is a folder, or a zip archive, which is read in place. ``name``: what the dataset is registered as.
    ``masks``: the folder of its mask files; None: the same root.
    """

    def __init__(self, root: str | Path, *, name: str = "NAME", masks: str | Path | None = None) -> None:
        self.root = Path(root)
        self.masks = Path(root if masks is None else masks)
        self._again = f"run `rcnn dataset refresh {name}`"
        self._archive = Archive(self.root) if self.root.is_file() else None

    @classmethod
    def registered(cls, folder: str | Path) -> "ImageSource":
        """The images of the dataset registered in ``folder`` (``artifacts/datasets/NAME``)."""
        source = read_source(Path(folder))
        return cls(source.root, name=Path(folder).resolve().name, masks=source.masks)

    def file_bytes(self, file_name: str) -> bytes:
        """The bytes of a file below the root, whatever they are; DatasetError where it is gone or leaves the root."""
        try:
            return read_inside(self.root, file_name) if self._archive is None else self._archive.read(file_name)
        except DatasetError:
            if self.root.exists():
                raise
            raise DatasetError(
                f"{self.root}: the images are not there any more; restore them, or import again"
            ) from None

    def read_bytes(self, record: ImageRecord) -> bytes:
        """The file's bytes; DatasetError where it is gone, leaves the root, or its SHA-256 is not ``record.sha256``."""
        return self._checked(self.file_bytes, self.root, record.file_name, record.sha256)

    def mask_bytes(self, file_name: str, sha256: str) -> bytes:
        """The bytes of a mask's file; errors as :meth:`read_bytes`."""
        return self._checked(lambda name: read_inside(self.masks, name), self.masks, file_name, sha256)

    def _checked(self, read: Callable[[str], bytes], root: Path, file_name: str, sha256: str) -> bytes:
        try:
            data = read(file_name)
        except MissingFileError:
            raise DatasetError(
                f"{file_name}: there is no such file in {root} any more; restore it, or {self._again}"
            ) from None
        if sha256_of(data) != sha256:
            raise DatasetError(
                f"{file_name}: the file in {root} changed since the dataset was imported (its SHA-256 is "
                f"another); restore it, or {self._again}"
            )
        return data

    def read(self, record: ImageRecord) -> Pixels:
        """The image, uint8 [H, W, 3], RGB, upright. Errors as :meth:`read_bytes` and :func:`decode_image`."""
        pixels = decode_image(self.read_bytes(record), record.file_name, max_pixels=HARD_MAX_PIXELS)
        if pixels.shape[:2] != (record.height, record.width):
            raise DatasetError(
                f"{record.file_name}: is {pixels.shape[1]} x {pixels.shape[0]} but the manifest says {record.width} x "
                f"{record.height}; import the dataset again"
            )
        return pixels


@dataclass(frozen=True)
class HalvedSplit:
    """Two splits that ``rcnn dataset split`` made of one: their ``names``; ``of`` is the split's, None: all images."""

    names: tuple[str, str]
    of: str | None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, for ``source.json``."""
        return {"names": list(self.names), "of": self.of}


@dataclass(frozen=True)
class Source:
    """Where a registered dataset came from: the folder of its images, and how it was read.

    ``path``, ``options``: what :func:`refresh` reads again; a dataset that was made rather than read has path None.
    ``masks``: the folder of its masks' files, None where they lie below ``root`` or there are none. ``halved``: the
    splits that were made of those of the source.
    """

    root: Path
    format: str
    path: Path | None
    options: Mapping[str, Any]
    notes: tuple[str, ...]
    masks: Path | None = None
    halved: tuple[HalvedSplit, ...] = ()


def read_source(folder: Path) -> Source:
    """Read ``source.json`` of the dataset registered in ``folder``."""
    # DVC's copy of a project lacks what neither git nor DVC tracks; each picture's digest is checked on every read
    folder = folder if (folder / "source.json").exists() else original(folder)
    file = folder / "source.json"
    try:
        raw = json.loads(read_bytes(file, str(file)))
        path = None if raw["path"] is None else (folder / raw["path"]).resolve()
        notes = tuple(str(note) for note in raw["notes"])
        root, masks = (None if raw.get(key) is None else _found(folder / raw[key]) for key in ("root", "masks"))
        if root is None:
            raise KeyError("root")
        halved = tuple(_read_halved(one) for one in raw.get("halved", ()))
        return Source(root, raw["format"], path, dict(raw["options"]), notes, masks, halved)
    except (ValueError, KeyError, TypeError, RecursionError, RuntimeError, OSError) as error:
        raise DatasetError(f"{file}: is damaged ({error!r}); import dataset {folder.name} again") from None


def _found(folder: Path) -> Path:
    """The folder itself, or where an experiment's copy lacks it the project's own."""
    folder = folder.resolve()
    return folder if folder.exists() else original(folder)


def _read_halved(raw: Mapping[str, Any]) -> HalvedSplit:
    first, second = raw["names"]
    return HalvedSplit((str(first), str(second)), None if raw["of"] is None else str(raw["of"]))
