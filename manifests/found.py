"""What a reader of any format finds in its source and hands to :func:`.build.build_dataset`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class FoundObject:
    """An object as the source has it; ``box`` already x1, y1, x2, y2, px, 0-based, right/bottom exclusive."""

    where: str  # for messages, e.g. "object 3"
    label: str
    box: tuple[float, float, float, float]
    shown: str  # the box in the source's own terms, for messages
    difficult: bool = False
    truncated: bool = False
    crowd: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FoundImage:
    """An image as the source has it.

    ``where`` names its annotation, for messages; ``stated`` is the source's width and height. ``relative``: boxes and
    polygons are fractions of the upright image's width and height (YOLO), not pixels. ``category`` is the class of the
    whole picture, in a source without boxes. ``unreadable`` counts the objects that the source has besides ``objects``,
    each of them a problem already.
    """

    file_name: str
    where: str
    objects: Sequence[FoundObject]
    id: int | None = None
    stated: tuple[int, int] | None = None
    splits: tuple[str, ...] = ()
    relative: bool = False
    category: str | None = None
    unreadable: int = 0
