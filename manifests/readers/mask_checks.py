"""What readers of masks share: checks of what was found in a mask, and objects with the boxes of their masks."""

from collections.abc import Iterable, Mapping

from cache.errors import DatasetError
from manifests.masks.examine import Examined, Part

from .findings import Findings, FoundObject

_SHOWN = 5  # values named in one line


def examined_or_left_out(
    examined: Examined | DatasetError | None, file_name: str, findings: Findings
) -> Examined | None:
    """What was found in an image's masks; None where these cannot be used, so that the image is left out and noted."""
    if isinstance(examined, Examined):
        return examined
    if examined is not None:
        findings.problem(examined)
    findings.left_out([file_name], f"left out: the whole image {file_name}: its masks cannot be used", "masks")
    return None


def foreign_values(examined: Examined, categories: Mapping[str, int], background: Iterable[int] = (0,)) -> str:
    """Say which ids of a mask no class has, in one line; "" where each has one or is one of ``background``."""
    known = {*categories.values(), *background}
    foreign = set(examined.present) - known
    if not foreign:
        return ""
    masks = examined.masks
    name = masks.class_map or masks.object_map
    if masks.kind == "panoptic":
        ids = _shown(part.number for part in examined.parts if part.category_id in foreign)
        return f"{name}: has the id {ids}, which its segments_info lacks; correct one"
    named = ", ".join(f"{category - masks.shift} {label}" for label, category in list(categories.items())[:3])
    values = _shown(category - masks.shift for category in foreign)
    return f"{name}: has the value {values}, which no class has ({named}, ...); name its class or correct the mask"


def note_by_colour(examined: Iterable[Examined | DatasetError], findings: Findings) -> None:
    """Note how many masks have VOC's colours in another order, so that their colours are taken, not their numbers."""
    files = [file for one in examined if isinstance(one, Examined) for file in one.by_colour]
    if files:
        masks = "1 mask has" if len(files) == 1 else f"{len(files)} masks have"
        findings.note(
            f"{masks} VOC's colours in another order than VOC (such as {files[0]}), as programs that shrink files "
            "leave them: read by the colours, not by the palette's numbers; if the numbers are meant, save them as grey"
        )


def _shown(values: Iterable[int]) -> str:
    first = sorted(set(values))
    return ", ".join(map(str, first[:_SHOWN])) + (", ..." if len(first) > _SHOWN else "")


def found_object(part: Part, label: str, where: str) -> FoundObject:
    """An object whose box is that of its mask."""
    shown = "mask from x {:g} y {:g} to x {:g} y {:g}".format(*part.box)
    return FoundObject(where, label, part.box, shown, details={"mask": part.number})


def objects_of(examined: Examined, names: Mapping[int, str]) -> list[FoundObject]:
    """The numbered objects of a mask whose category is named, each with the box of its mask."""
    parts = [part for part in examined.parts if part.numbered and part.category_id in names]
    return [found_object(part, names[part.category_id], f"object {part.number}") for part in parts]
