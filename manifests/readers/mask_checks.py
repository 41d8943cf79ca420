"""The checks of an image's masks that all formats share."""

from collections.abc import Iterable, Mapping

from manifests.masks.examine import Examined

_SHOWN = 5  # values named in one line


def foreign_values(examined: Examined, categories: Mapping[str, int], background: Iterable[int] = (0,)) -> str:
    """Say which ids of a mask no class has, in one line; "" where each has one or is of the background."""
    known = {*categories.values(), *background}
    foreign = sorted({part.category_id for part in examined.parts} - known)
    if not foreign:
        return ""
    shift = examined.masks.shift
    shown = ", ".join(str(one - shift) for one in foreign[:_SHOWN]) + (", ..." if len(foreign) > _SHOWN else "")
    named = ", ".join(f"{category - shift} {label}" for label, category in list(categories.items())[:3])
    name = examined.masks.class_map or examined.masks.object_map
    return f"{name}: has the value {shown}, which no class has ({named}, ...); name its class or correct the mask"
