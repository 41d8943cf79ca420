"""Every error that a user is told, each with what is wrong, where, and what to do. Imports nothing of ours.

The command line answers each of :data:`USER_ERRORS` with its message and exit code 2.
"""

import re
from collections.abc import Iterable


class StoreError(Exception):
    """The store cannot do what was asked; the message is one line saying what, where, and what to do."""


class StoreVersionError(StoreError):
    """The store, an object or an artifact manifest was written by a newer version of this program."""


class StorePermissionError(StoreError):
    """The system does not let this user do it: a read-only file system, or no permission."""


class ObjectError(StoreError):
    """Something is wrong with one object. ``stage`` and ``key`` are the object's."""

    def __init__(self, message: str, stage: str, key: str) -> None:
        super().__init__(message)
        self.stage, self.key = stage, key

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        return type(self), (str(self), self.stage, self.key)


class MissingObjectError(ObjectError):
    """The store has no object of this stage and key."""


class CorruptObjectError(ObjectError):
    """An object's bytes are not those that were written. ``quarantined``: it was taken out of the store."""

    def __init__(self, message: str, stage: str, key: str, quarantined: bool) -> None:
        super().__init__(message, stage, key)
        self.quarantined = quarantined

    def __reduce__(self) -> tuple[type, tuple[str, str, str, bool]]:  # type: ignore[override]
        return type(self), (str(self), self.stage, self.key, self.quarantined)


class StoreFullError(StoreError):
    """No space (or quota, or allowed file size) left while writing; nothing half-written stays behind."""


def remedy(stage: str) -> str:
    """The command that fills a stage's gaps: it recomputes only what the store lacks."""
    return f"run `dvc repro -f -s {stage}`, which recomputes only what is missing, and then this again"


_DIGITS = 20  # more than any line number has
_LINE_BREAKS = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")  # all that str.splitlines splits at


def _by_number(line: str) -> tuple[str, str]:
    """Return what sorts lines by the numbers in them, not by these numbers' first digits."""
    return re.sub("[0-9]+", lambda number: number[0].zfill(_DIGITS), line), line


class DatasetError(Exception):
    """Everything that is wrong with a dataset, at once.

    ``problems`` holds one line per problem (file, object, what is wrong, what to do), sorted (line 2 before line 10),
    without repeats, with the spaces that names in it have; ``hint`` is a way on that concerns all of them. ``str()`` is
    those lines.
    """

    def __init__(self, problems: str | Iterable[str], hint: str = "") -> None:
        lines = [problems] if isinstance(problems, str) else problems
        self.problems: list[str] = sorted({_LINE_BREAKS.sub(" ", line).strip() for line in lines}, key=_by_number)
        self.hint = hint
        super().__init__("\n".join([*self.problems, *([hint] if hint else [])]))

    def __reduce__(self) -> tuple[type, tuple[list[str], str]]:
        return type(self), (self.problems, self.hint)


class MissingFileError(DatasetError):
    """A file that a dataset names is not there."""


class StageError(Exception):
    """A stage cannot go on because of its input or parameters.

    The message is one line (or one line per problem): what is wrong, where (file, image, class, parameter),
    and what to do about it.
    """


class OutputError(Exception):
    """A file or folder of the user's is where one was to be written; the message is one line and says what to do."""


class ParamsError(Exception):
    """params.yaml does not say what it must; the message names every wrong parameter."""


class ExecutionError(Exception):
    """The Dask cluster, or one of its workers, cannot do the work; says why and what to do. All computed is stored."""


class InterruptedRun(Exception):
    """The user or the system asked the run to stop; what was computed is in the store."""


USER_ERRORS = (ParamsError, ExecutionError, StageError, DatasetError, OutputError, StoreError)
