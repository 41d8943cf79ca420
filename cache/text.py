"""Text for people: sizes, numbers of things, plain tables, and the name that was probably meant."""

import difflib
from collections.abc import Iterable, Sequence

_NEAR = 0.6  # part of two names that must agree (difflib's usual cutoff)


def format_bytes(count: float) -> str:
    """Write a number of bytes with its unit: ``1536`` -> ``"1.5 KiB"``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def counted(n: int, one: str, many: str | None = None) -> str:
    """Write a number of things: ``1 class``, ``2 classes``; ``many`` is ``one`` and an s unless it is given."""
    return f"{n} {one if n == 1 else many or f'{one}s'}"


def format_table(header: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[int] = ()) -> str:
    """Lay out columns two spaces apart, headed by ``header``; the columns numbered in ``right`` are right-aligned."""
    cells = [[str(c) for c in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = []
    for row in cells:
        parts = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def nearest(name: str, known: Iterable[str], most: int = 1) -> str:
    """Hint at what was probably meant: ``" (did you mean 'x'?)"``, or an empty string where nothing is near.

    Upper and lower case are the same here. With ``most`` above 1 up to so many names are hinted at, the nearest first.
    """
    by_lower = {candidate.lower(): candidate for candidate in known}
    found = [repr(by_lower[n]) for n in difflib.get_close_matches(str(name).lower(), list(by_lower), most, _NEAR)]
    return f" (did you mean {', '.join(found[:-1])}{' or ' if found[1:] else ''}{found[-1]}?)" if found else ""
