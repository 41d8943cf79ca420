"""The one error that reading, checking or opening a dataset raises."""

from collections.abc import Iterable


class DatasetError(Exception):
    """Everything that is wrong with a dataset, at once.

    ``problems`` holds one line per problem (file, object, what is wrong, what to do), sorted and without repeats;
    ``str()`` is those lines.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        lines = [problems] if isinstance(problems, str) else problems
        self.problems: list[str] = sorted({" ".join(line.split()) for line in lines})
        super().__init__("\n".join(self.problems))


class MissingFileError(DatasetError):
    """A file that a dataset names is not there."""
