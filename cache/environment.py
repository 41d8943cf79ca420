"""The environment that computes objects: the versions of the libraries that bits depend on, and the device.

OpenCV 4.10 and 5.0 resize a crop to other pixels, torch's kernels differ from release to release and from a CPU to a
GPU. So every object's record names the environment that computed it. Nothing is imported for that: torch takes seconds.
"""

import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import metadata

from .digest import digest_json

# By the name in a record: the distributions that bring the library, of which the project requires the first.
LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "torch": ("torch",),
    "torchvision": ("torchvision",),
    "numpy": ("numpy",),
    "opencv": ("opencv-contrib-python-headless", "opencv-contrib-python", "opencv-python-headless", "opencv-python"),
    "pillow": ("pillow",),
    "numba": ("numba",),
}
NAMES = ("python", *LIBRARIES, "device")  # in the order in which people are shown them
ABSENT = "not installed"
_MAX_NAMES, _MAX_CHARS = 64, 256


@dataclass(frozen=True)
class Environment:
    """Versions by library, and ``device``: ``cpu``, or ``cuda`` and the GPU's name. Hashable; equal by content."""

    parts: tuple[tuple[str, str], ...]  # (name, value), sorted by name

    @classmethod
    def from_json(cls, value: object) -> "Environment":
        """Read what ``as_json`` made; ValueError for anything else. Names that this program does not know are kept."""
        if not isinstance(value, dict) or not 0 < len(value) <= _MAX_NAMES:
            raise ValueError("environment is no mapping of names to versions")
        for text in (*value.keys(), *value.values()):
            if not isinstance(text, str) or not text.isprintable() or not 0 < len(text) <= _MAX_CHARS:
                raise ValueError("environment holds something that is no version")
        return cls(tuple(sorted(value.items())))

    def as_json(self) -> dict[str, str]:
        """The mapping that a record keeps."""
        return dict(self.parts)

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of the mapping: what ``store.environment: key`` puts into keys."""
        return digest_json(self.as_json())

    def __str__(self) -> str:
        own = self.as_json()
        return ", ".join(f"{name} {own[name]}" for name in ordered(own))

    def differing(self, other: "Environment") -> list[str]:
        """The names whose values differ, in the order in which people are shown them."""
        mine, theirs = self.as_json(), other.as_json()
        return [name for name in ordered({*mine, *theirs}) if mine.get(name) != theirs.get(name)]


def ordered(names: Iterable[str]) -> list[str]:
    """The names as people are shown them: those of ``NAMES`` in its order, then whatever else there is."""
    return sorted(names, key=lambda name: (NAMES.index(name) if name in NAMES else len(NAMES), name))


@cache
def present(device: str = "cpu") -> Environment:
    """Describe this process's environment with a device; the versions are looked up once."""
    versions = {"python": platform.python_version()}
    versions |= {name: _version(distributions) for name, distributions in LIBRARIES.items()}
    return Environment.from_json({**versions, "device": device})


def _version(distributions: Iterable[str]) -> str:
    """Installed version, with its build (``+cu128``); where several distributions bring the library, all of theirs.

    Which of several is imported depends on the order of their installation, which nothing records.
    """
    found = []
    for name in distributions:
        try:
            found.append(metadata.version(name))
        except metadata.PackageNotFoundError:
            continue
    return " and ".join(found) or ABSENT
