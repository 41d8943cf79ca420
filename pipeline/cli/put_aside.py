"""Results put aside under a name: what a name may be, and that no other file is replaced."""

import re
from pathlib import Path

import click

from cache.errors import ParamsError
from stages.settings import NAME_PATTERN


def check_name(name: str) -> None:
    """Refuse a name that would not be one file's on every system."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise click.UsageError(f"name {name!r}: letters, digits, '.', '_', '-' only, 64 at most, the first no sign")


def check_free(target: Path, data: bytes, what: str, *, force: bool) -> None:
    """Raise ParamsError where a file is there that is not this one already, or a link; with ``force`` never."""
    is_other = target.is_symlink() or (target.exists() and target.read_bytes() != data)
    if is_other and not force:
        raise ParamsError(f"{target}: other {what} are saved under this name; choose another, or --force")
