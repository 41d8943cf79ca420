"""What a reader finds on its way: problems and notes, reported together at the end."""

from .errors import DatasetError


class Findings:
    """Collects every problem of one dataset, so that the user sees all of them at once.

    A *problem* concerns one box or one image, which ``skip`` leaves out with a note; a *fatal* problem leaves nothing
    to go on with. A note is something the user should know that stops nothing.
    """

    def __init__(self, *, skip: bool) -> None:
        self._skip = skip
        self._problems: list[str] = []
        self._fatal: list[str] = []
        self._notes: list[str] = []

    @property
    def stops(self) -> bool:
        """Whether :meth:`conclude` will raise as things stand."""
        return bool(self._fatal or (self._problems and not self._skip))

    def problem(self, line: str | DatasetError) -> None:
        """A bad box or image: ``<file>[: object <n>]: <what is wrong>; <what to do>``."""
        self._problems += line.problems if isinstance(line, DatasetError) else [line]

    def fatal(self, line: str | DatasetError) -> None:
        """A problem that leaving out a box or image does not cure."""
        self._fatal += line.problems if isinstance(line, DatasetError) else [line]

    def note(self, line: str) -> None:
        """Something the user should know, one line."""
        self._notes.append(line)

    def conclude(self) -> list[str]:
        """All notes; DatasetError with every problem where there is one that stops us."""
        if self.stops:
            raise DatasetError(self._fatal + self._problems)
        left_out = DatasetError(self._problems).problems
        return [f"left out: {line}" for line in left_out] + self._notes
