"""Which scripts can be drawn: all letters of a name are in its font, or a line names those that are not."""

import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from manifests import fonts

SCRIPTS = {
    "English": "dog",
    "accents": "Écureuil, Łódź, jalapeño, Straße",
    "Vietnamese": "Con chó nhỏ",
    "Greek": "Σκύλος",
    "Cyrillic": "Ножницы",
    "Arabic": "قطة",
    "Hebrew": "כלב",
    "combining marks": "e\u0301cole",
}
EAST_ASIAN = {"Chinese": "止血钳", "Japanese": "いぬ", "Korean": "개"}


@pytest.fixture(autouse=True)
def only_what_pip_installs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """No font of this machine, unless the test gives some."""

    def give(*found: Path) -> None:
        monkeypatch.setattr(fonts, "_system_fonts", lambda: found)
        fonts._best_font.cache_clear()

    give()
    yield give
    fonts._best_font.cache_clear()


def picture(text: str) -> bytes:
    image = Image.new("L", (400, 40))
    ImageDraw.Draw(image).text((2, 2), text, fill=255, font=fonts.font_for(text, 24))
    return np.asarray(image).tobytes()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_that_a_dependency_has_is_drawn(script: str) -> None:
    name = SCRIPTS[script]
    assert fonts.note_of_missing([name]) is None
    alone = {letter: picture(letter) for letter in unicodedata.normalize("NFC", name)}
    assert len(set(alone.values())) == len(alone)  # boxes would all be alike


@pytest.mark.parametrize("script", EAST_ASIAN)
def test_one_that_no_font_has_is_named_with_what_to_do(script: str) -> None:
    name = EAST_ASIAN[script]
    note = fonts.note_of_missing(["dog", *SCRIPTS.values(), name])
    assert note is not None and "\n" not in note and "install a font" in note and repr(name) in note
    assert all(letter in note for letter in name) and "dog" not in note


def test_a_font_of_the_system_is_taken_where_only_it_has_the_letters(
    only_what_pip_installs: Callable[..., None], tmp_path: Path
) -> None:
    """Have DejaVu as the system's font, and none from a dependency."""
    dejavu = fonts._dejavu()
    assert dejavu is not None
    broken = tmp_path / "a.ttf"
    broken.write_bytes(b"no font")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fonts, "_dejavu", lambda: None)
        only_what_pip_installs()
        assert "no font on this machine has the characters Ёж" in str(fonts.note_of_missing(["Ёж"]))
        only_what_pip_installs(broken, dejavu)
        assert fonts.note_of_missing(["Ёж"]) is None


def test_of_many_characters_the_first_are_named() -> None:
    many = "".join(chr(0x4E00 + i) for i in range(300))
    note = str(fonts.note_of_missing([many[:150], many[150:]]))
    assert "and 280 more" in note


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=12))
def test_any_text_can_be_asked_about_and_drawn(text: str) -> None:
    note = fonts.note_of_missing([text])
    assert note is None or "\n" not in note
    picture(fonts.one_line(text))


def test_controls_and_line_ends_are_spaces() -> None:
    assert fonts.one_line("a\nb\x85c\u2028d\ud800e") == "a b c d e"
