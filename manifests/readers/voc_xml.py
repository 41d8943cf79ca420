"""VOC's XML: the forms of 2007, 2010 and 2012, and what exporters make of them.

``difficult``, ``truncated``, ``occluded`` and ``pose`` are optional, coordinates may be fractions, ``part`` boxes
inside an object (person layout) are not objects. Coordinates are 1-based with an inclusive right/bottom edge, so that
the box inside is ``xmin - 1, ymin - 1, xmax, ymax``.
"""

import math
from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element

from manifests.names import plain_name
from manifests.values import read_flag, read_number

from .findings import FoundObject

# Elements that hold boxes in forms that are not VOC's: rotated boxes, polygons, CVAT's and others' own XML.
_OTHER_BOXES = frozenset({"bndbox", "robndbox", "xmin", "box", "polygon", "polyline", "points", "cuboid"})
_OWN = frozenset({"object", "filename", "size", "folder", "source", "segmented", "path"})


def stated_pictures(root: Element) -> list[str]:
    """The picture's file names as the annotation states them, the likelier first."""
    texts = [root.findtext(key, "") for key in ("filename", "path")]
    return [name for text in texts if (name := plain_name(text))]


def stated_size(root: Element) -> tuple[int, int] | None:
    """Width and height as stated; None where they are not (some tools write 0 x 0); ValueError for other texts."""
    texts = [root.findtext(f"size/{key}", "").strip() for key in ("width", "height")]
    if texts == ["", ""]:
        return None
    try:
        width, height = (int(read_number(text)) for text in texts)
    except (ValueError, OverflowError):
        raise ValueError(f"size {texts[0]!r} x {texts[1]!r} is not two numbers") from None
    return (width, height) if width > 0 and height > 0 else None


def find_objects(root: Element) -> list[Element]:
    """The ``object`` elements, in the document's order: the root's own, and those with a box that stand in a wrapper.

    ValueError where there is none and the file is of another form: such a file is not an empty one.
    """
    own = set(root.findall("object"))
    objects = [e for e in _outermost_objects(root) if e in own or e.find("bndbox") is not None]
    if not objects:
        other = sorted({element.tag for element in root.iter()} & _OTHER_BOXES)
        if other:
            raise ValueError(f"it has <{other[0]}> but no <object> with a <bndbox>, so it is not in VOC's form")
        if root.tag != "annotation" and not {child.tag for child in root} & _OWN:
            raise ValueError(f"its root is <{root.tag[:40]}> and holds nothing of VOC's <annotation>")
    return objects


def _outermost_objects(root: Element) -> Iterator[Element]:
    """All ``object`` elements that are in no other one, in the document's order (without recursion: it may be deep)."""
    waiting = [root]
    while waiting:
        element = waiting.pop()
        if element.tag == "object":
            yield element
        else:
            waiting.extend(reversed(element))


def read_object(element: Element, where: str) -> FoundObject:
    """One ``object`` element; ValueError saying what is wrong with it."""
    label = element.findtext("name", "").strip()
    if not label:
        raise ValueError("it has no class name")
    box = element.find("bndbox")
    if box is None:
        raise ValueError("it has no bndbox")
    corners = []
    for key in ("xmin", "ymin", "xmax", "ymax"):
        try:
            corners.append(read_number(box.findtext(key, "")))
        except ValueError as error:
            raise ValueError(f"{key} is {error}") from None
    details: dict[str, Any] = {}
    if element.find("occluded") is not None:
        details["occluded"] = int(_flag(element, "occluded"))
    if pose := element.findtext("pose", "").strip():
        details["pose"] = pose
    return FoundObject(
        where=where,
        label=label,
        box=from_voc_corners(*corners),
        shown="xmin {:g} ymin {:g} xmax {:g} ymax {:g}".format(*corners),
        difficult=_flag(element, "difficult"),
        truncated=_flag(element, "truncated"),
        details=details,
    )


def _flag(element: Element, key: str) -> bool:
    try:
        return read_flag(element.findtext(key))
    except ValueError as error:
        raise ValueError(f"{key} is {error}") from None


def from_voc_corners(xmin: float, ymin: float, xmax: float, ymax: float) -> tuple[float, float, float, float]:
    """1-based inclusive corners -> 0-based, right/bottom exclusive.

    Where ``xmax <= xmin`` the result is left inverted or empty for the checks to find: read to the letter,
    ``xmin == xmax`` is one pixel wide, but in real files it is a click without a drag.
    """
    if xmax <= xmin or ymax <= ymin or not all(map(math.isfinite, (xmin, ymin, xmax, ymax))):
        return xmin, ymin, xmax, ymax
    return xmin - 1, ymin - 1, xmax, ymax
