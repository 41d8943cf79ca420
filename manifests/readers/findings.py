"""What a reader finds on its way: problems and notes, reported together at the end."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cache.errors import DatasetError

_SHOWN = 3  # lines of one kind, where there are more


class Findings:
    """Collects every problem of one dataset, so that the user sees all of them at once.

    A *problem* concerns one box or one image, which ``skip`` leaves out with a note; a *fatal* problem leaves nothing
    to go on with. A note is something the user should know that stops nothing. Lines of one ``kind`` have one cause
    (a class that the list lacks, boxes in pixels): the first few of a kind stand for all, and say how many.
    """

    def __init__(self, *, skip: bool) -> None:
        self._skip = skip
        self._problems: list[tuple[str, str]] = []
        self._fatal: list[str] = []
        self._notes: list[tuple[str, str]] = []

    @property
    def stops(self) -> bool:
        """Whether :meth:`conclude` will raise as things stand."""
        return bool(self._fatal or (self._problems and not self._skip))

    def problem(self, line: str | DatasetError, kind: str = "") -> None:
        """A bad box or image: ``<file>[: object <n>]: <what is wrong>; <what to do>``."""
        self._problems += [(one, kind) for one in (line.problems if isinstance(line, DatasetError) else [line])]

    def fatal(self, line: str | DatasetError) -> None:
        """A problem that leaving out a box or image does not cure."""
        self._fatal += line.problems if isinstance(line, DatasetError) else [line]

    def note(self, line: str, kind: str = "") -> None:
        """Something the user should know, one line."""
        self._notes.append((line, kind))

    def conclude(self) -> list[str]:
        """All notes; DatasetError with every problem where there is one that stops us."""
        if self.stops:
            raise DatasetError(self._fatal + _summed_up(self._problems))
        left_out = DatasetError(_summed_up(self._problems)).problems
        return [f"left out: {line}" for line in left_out] + _summed_up(self._notes)


def _summed_up(lines: Iterable[tuple[str, str]]) -> list[str]:
    """Lines with their kinds: all without a kind, and of each kind the first few, the last with the others' number."""
    of_kind: dict[str, list[str]] = {}
    out: list[str] = []
    for line, kind in lines:
        (of_kind.setdefault(kind, []) if kind else out).append(line)
    for same in of_kind.values():
        more = len(same) - _SHOWN
        out += same if more <= 1 else [*same[: _SHOWN - 1], f"{same[_SHOWN - 1]} (and {more} more like this)"]
    return out


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
