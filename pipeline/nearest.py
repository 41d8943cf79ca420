"""The nearest known name to a misspelt one."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"``, or an empty string where nothing is near."""
    found = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    return f" (did you mean {found[0]!r}?)" if found else ""
