"""What a reader finds on its way: problems and notes, reported together at the end."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cache.errors import DatasetError
from manifests.dataset import MaskSource

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
        self.told: set[str] = set()  # pictures that are left out and of which a line says so

    @property
    def stops(self) -> bool:
        """Whether :meth:`conclude` will raise as things stand."""
        return bool(self._fatal or (self._problems and not self._skip))

    def problem(self, line: str | DatasetError, kind: str = "") -> None:
        """Add a bad box or image: ``<file>[: object <n>]: <what is wrong>; <what to do>``.

        Of an error about one file, what it says of the file is its kind.
        """
        if isinstance(line, DatasetError):
            self._problems += [(one, kind or one.partition(": ")[2]) for one in line.problems]
        else:
            self._problems.append((line, kind))

    def fatal(self, line: str | DatasetError) -> None:
        """Add a problem that leaving out a box or image does not cure."""
        self._fatal += line.problems if isinstance(line, DatasetError) else [line]

    def note(self, line: str, kind: str = "") -> None:
        """Add something the user should know, one line."""
        self._notes.append((line, kind))

    def left_out(self, pictures: Collection[str], line: str, kind: str = "") -> None:
        """Note that these pictures are left out, by a line that counts or names them; nothing where there are none."""
        if pictures:
            self.told.update(pictures)
            self.note(line, kind)

    def conclude(self, *, passable: bool = False) -> list[str]:
        """Return all notes; DatasetError with every problem where there is one that stops us.

        ``passable``: something is left to go on with where the problems are skipped; the error then says so.
        """
        if self.stops:
            problems = summed_up(self._problems)
            raise DatasetError(self._fatal + problems, self._way_on(len(problems)) if passable else "")
        left_out = sorted(DatasetError(summed_up(self._problems)).problems)
        return [f"left out: {line}" for line in left_out] + summed_up(self._notes)

    def _way_on(self, lines: int) -> str:
        """What ``--on-error skip`` would do about the problems."""
        if self._skip or not lines:
            return ""
        if self._fatal:
            return (
                f"--on-error skip would pass over {lines} of these lines; the other {len(self._fatal)} stop it as well"
            )
        what = "what this line names" if lines == 1 else f"what these {lines} lines name"
        return f"--on-error skip leaves out just {what}, and imports the rest"


def summed_up(lines: Iterable[tuple[str, str]]) -> list[str]:
    """Cut down lines with their kinds: all without a kind, of each kind the first few, the last with how many more."""
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
    each of them a problem already. ``annotated``: whether somebody has looked for objects; where not, there being none
    says nothing. ``unread``: it has annotations, which are left out as the options say. ``exhaustive``: whether all its
    objects are annotated. ``unscored``: classes by name that are not scored in it. ``masks``: where its masks are, with
    their files' digests; ``mask_size``: the width and height of these.
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
    annotated: bool = True
    unread: bool = False
    exhaustive: bool = True
    unscored: tuple[str, ...] = ()
    masks: MaskSource | None = None
    mask_size: tuple[int, int] | None = None
