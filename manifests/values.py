"""The one place that reads numbers and flags as people's tools write them."""

import math
import re

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE)
_FALSE = frozenset({"", "0", "false", "no", "f", "n", "unspecified", "unknown", "none", "null", "n/a"})
_TRUE = frozenset({"1", "true", "yes", "t", "y"})
_EXACT = 2**53  # integers up to here are floats exactly


def read_number(text: str) -> float:
    """A number as written, maybe NaN or infinite; ValueError, saying what it is, for anything else.

    Python's own ``float`` takes ``1_5`` for fifteen as well, which no tool means.
    """
    text = text.strip()
    if _NUMBER.fullmatch(text) is None:
        more = "; write a point for the decimal comma" if _NUMBER.fullmatch(text.replace(",", ".", 1)) else ""
        raise ValueError(f"{text[:40]!r}, not a number{more}")
    return float(text)


def read_integer(value: object) -> int | None:
    """A whole number written as one, as ``1.0`` or as the text ``"1"``; None for anything else, and for a truth."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        text = value.strip()
        if re.fullmatch(r"[+-]?\d{1,30}", text):
            return int(text)
        if _NUMBER.fullmatch(text) is None:
            return None
        value = float(text)
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    return None


def read_flag(value: object) -> bool:
    """A flag: 0 or 1 in any form (``0.0``, ``"no"``, true), nothing (false), or a share (0.06 truncated is truncated).

    ValueError, saying what it is, for anything else.
    """
    if value is None or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    text = str(value).strip().lower() if isinstance(value, str | int | float) else "?"
    if text in _FALSE or text in _TRUE:
        return text in _TRUE
    share = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not 0 <= share <= 1:
        shown = repr(value.strip() if isinstance(value, str) else value)
        raise ValueError(f"{shown[:42]}, not 0 or 1")
    return share > 0
