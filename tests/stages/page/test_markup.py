"""Elements escape what is text; numbers are written as a reader expects them."""

import pytest
from page_checks import self_contained

from stages.page.markup import Markup, document, percent, section, signed_percent, table, tag
from stages.page.provenance import duration, parameter_rows


def test_markup_escapes_text_and_attributes_but_not_markup() -> None:
    assert tag("p", "a<b", tag("b", "&"), title='"') == '<p title="&quot;">a&lt;b<b>&amp;</b></p>'
    assert tag("rect", x=1.5, stroke_width=2, class_="c0", name=None) == '<rect x="1.5" stroke-width="2" class="c0"/>'
    assert isinstance(tag("p"), Markup)
    assert table(["a", "b"], [["x", "1"]]).count('class="number"') == 2


def test_a_document_is_whole() -> None:
    html = document("a & b", "<lead>", [("x", "X")], [section("x", "X", "text")], style=".more { }")
    checker = self_contained(html)
    assert checker.ids == ["x"]
    assert "<lead>" in "".join(checker.text)
    assert ".more { }" in html


@pytest.mark.parametrize(
    ("value", "plain", "signed"),
    [(None, "–", "–"), (0.123, "12.3", "+12.3"), (-0.004, "-0.4", "−0.4"), (0, "0.0", "+0.0")],
)
def test_scores_are_in_percent(value: float | None, plain: str, signed: str) -> None:
    assert (percent(value), signed_percent(value)) == (plain, signed)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (60, "1 min 00 s"), (75, "1 min 15 s"), (3 * 3600 + 430, "3 h 07 min")],
)
def test_times_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_parameters_are_named_by_group() -> None:
    rows = dict(parameter_rows({"seed": 3, "svm": {"C": 0.001, "layers": ["a", None]}}))
    assert rows == {"seed": "3", "svm.C": "0.001", "svm.layers": "[a, –]"}
