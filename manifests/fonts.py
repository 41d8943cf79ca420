"""Fonts in which names can be drawn onto pictures, whatever script they are in, as far as this machine has one.

Pillow's own font has the letters of English only. DejaVu Sans, which comes with matplotlib, has accents, Greek,
Cyrillic, Hebrew, Arabic and more, but no Chinese, Japanese or Korean: for these the system's fonts are searched.
"""

import importlib.util
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

_NO_CHARACTER = "\U0010ffff"  # Unicode will never have one here: it shows what a font draws instead
_PROBE_PX = 16
_NOT_DRAWN = frozenset({"Cc", "Cs", "Zl", "Zp"})  # categories that Pillow's layout refuses or takes for line ends
_NAMED = 20  # characters named where many are missing


def one_line(text: str) -> str:
    """Give a text as it can be drawn: a space for each line end, control character or half a surrogate pair."""
    return "".join(" " if unicodedata.category(letter) in _NOT_DRAWN else letter for letter in text)


def font_for(text: str, height_px: int) -> Font:
    """Open a font of a height that has all letters of this text, or as many of them as any font has."""
    return _opened(_best_font(_letters(text)), height_px)


def note_of_missing(texts: Iterable[str]) -> str | None:
    """Say in one line which characters of these texts no font of this machine has; None where each can be drawn."""
    texts = list(texts)
    missing = sorted(set[str]().union(*(_lacking(_best_font(_letters(text)), _letters(text)) for text in texts)))
    if not missing:
        return None
    named = "".join(missing[:_NAMED]) + (f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else "")
    first = next(text for text in texts if missing[0] in unicodedata.normalize("NFC", text))
    return (
        f"no font on this machine has the characters {named} (of {first!r}); they are drawn as empty boxes: install a "
        "font that has them, such as Noto Sans CJK for Chinese, Japanese and Korean"
    )


def _letters(text: str) -> frozenset[str]:
    """What needs a glyph of its own: neither space nor control, nor a mark that joins the letter before it."""
    joined = unicodedata.normalize("NFC", text)
    return frozenset(letter for letter in joined if unicodedata.category(letter)[0] not in "CZM")


@lru_cache(maxsize=4096)
def _best_font(letters: frozenset[str]) -> Path | None:
    """The first font that has all the letters, or the one that lacks fewest; None is Pillow's own."""
    best, fewest = None, len(letters) + 1
    for candidates in (lambda: (None, _dejavu()), _system_fonts):
        for font in candidates():
            lacking = len(_lacking(font, letters, enough=fewest))
            if lacking < fewest:
                best, fewest = font, lacking
            if not fewest:
                return best
    return best


def _lacking(font: Path | None, letters: Iterable[str], enough: int = 2**31) -> set[str]:
    """The letters that a font has not, up to ``enough`` of them; all where it cannot be opened."""
    try:
        opened = _opened(font, _PROBE_PX)
        empty = _drawn(opened, _NO_CHARACTER)
        lacking: set[str] = set()
        for letter in sorted(letters):
            if _drawn(opened, letter) == empty:
                lacking.add(letter)
                if len(lacking) >= enough:
                    break
    except OSError:  # a damaged font, or one of pictures of one size
        return set(letters)
    return lacking


def _opened(font: Path | None, height_px: int) -> Font:
    """Open a font anew: no two threads share one."""
    return ImageFont.load_default(height_px) if font is None else ImageFont.truetype(str(font), height_px)


def _drawn(font: Font, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)


def _dejavu() -> Path | None:
    """DejaVu Sans, found without importing matplotlib, which takes seconds."""
    found = importlib.util.find_spec("matplotlib")
    path = Path(found.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf" if found and found.origin else None
    return path if path is not None and path.exists() else None


@lru_cache(maxsize=1)
def _system_fonts() -> tuple[Path, ...]:
    """The fonts of the system and the user, upright ones of common weight first."""
    from matplotlib import font_manager

    found = [Path(name) for name in font_manager.findSystemFonts()]
    return tuple(sorted(found, key=lambda path: ("regular" not in path.stem.lower(), path.name, str(path))))
