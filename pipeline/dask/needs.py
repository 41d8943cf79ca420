"""What a Dask worker must share with the process that drives it: the code, the store and the images."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from pathlib import Path

from cache import Store, digest_json
from stages.contract import ImageTask
from stages.graph import STAGES

_OWN = ("cache", "manifests", "pipeline", "stages")
# An object's bits depend on these.
_LIBRARIES = (
    "h5py",
    "numba",
    "numcodecs",
    "numpy",
    "opencv-contrib-python-headless",
    "pillow",
    "torch",
    "torchvision",
    "zarr",
)


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python, libraries and our sources, on which client and workers must agree."""
    found = {"python": f"{sys.version_info.major}.{sys.version_info.minor}", "rcnn": _version("rcnn")}
    found |= {library: _version(library) for library in _LIBRARIES}
    found |= {f"stage {name}": str(stage.version) for name, stage in STAGES.items()}
    return found | {"source code": _source_digest()}


def _version(package: str) -> str:
    """Return a package's version without the build (``+cu128``): a client without a GPU may drive workers with one."""
    try:
        return metadata.version(package).partition("+")[0]
    except metadata.PackageNotFoundError:
        return "not installed"


def _source_digest() -> str:
    """Return one SHA-256 over the project's source files."""
    files: dict[str, str] = {}
    for package in _OWN:
        root = Path(str(import_module(package).__path__[0]))
        files |= {f"{package}/{p.relative_to(root).as_posix()}": p.read_text("utf-8") for p in root.rglob("*.py")}
    return digest_json(files)[:12]


@dataclass(frozen=True)
class Needs:
    """Checked on every worker before its first image."""

    versions: Mapping[str, str]
    store: Store
    objects: tuple[tuple[str, str], ...]  # stage and key of objects that are there
    files: tuple[Path, ...]  # images that are there, or the archive that they are in

    @classmethod
    def of(cls, store: Store, tasks: Sequence[ImageTask], images: Path | None) -> "Needs":
        """What the first of the tasks shows; only what the calling process sees itself is asked of others."""
        objects = tuple(item for item in tasks[0].reads.items() if store.has(*item))
        paths = [] if images is None else [images / tasks[0].image.file_name, images]  # a folder, or an archive
        return cls(versions(), store, objects, tuple(path for path in paths if path.is_file()))

    def problems(self) -> list[str]:
        """What is not so in this process, one line each."""
        here = versions()
        lines = [
            f"{name} is {here.get(name)}, and {wanted} where the run was started; install the same on both, and start "
            "the worker again"
            for name, wanted in self.versions.items()
            if here.get(name) != wanted
        ]
        lines += [
            f"finds no {stage} object {key[:12]} in the store {self.store.root}; mount the same folder there "
            "(store.root or RCNN_STORE where the run is started must name it)"
            for stage, key in self.objects
            if not self.store.has(stage, key)
        ]
        lines += [
            f"finds no image {path}; mount the dataset's folder there under the same path"
            for path in self.files
            if not path.is_file()
        ]
        return lines
