"""The page: whole and readable with one detector, eight, or more; nothing found; nothing to find."""

import re
from dataclasses import replace

import numpy as np
import pytest
from comparison_data import CLASSES, EVIL, NOTHING, PARAMETERS, data, detector, without_objects
from page_checks import parsed, self_contained

from stages.comparison.inputs import ComparisonData
from stages.comparison.measures import compare
from stages.comparison.page import page
from stages.comparison.scores import best_in_bold
from stages.comparison.settings import CompareSettings
from stages.page.markup import percent, signed_percent


def made(given: ComparisonData) -> str:
    return page(given, compare(given))


def text_of(html: str) -> str:
    return " ".join("".join(parsed(html).text).split())


@pytest.mark.parametrize("n_detectors", [1, 2, 3, 8, 9])
def test_the_page_is_whole_for_any_number_of_detectors(n_detectors: int) -> None:
    given = data(n_detectors)
    html = made(given)
    checker = self_contained(html)
    targets = {link[1:] for link in checker.links if link.startswith("#")}
    assert targets == set(checker.ids)
    assert {"scores", "images", "classes", "pr", "mistakes", "regions", "cost", "parameters", "digests"} <= targets
    assert "nan" not in re.sub(r"base64,[^\"]*", "", html).lower()
    for one, figures in zip(given.detectors, compare(given).figures, strict=True):
        assert one.name in text_of(html)
        assert percent(figures.scores["voc2010"]["mAP"]) in text_of(html)
        assert figures.title == f"small & {EVIL}"
        if figures.difference:
            assert signed_percent(figures.difference["coco"]["AP"]) in text_of(html)
    assert ("less d0" in html) == (n_detectors > 1)


def test_names_are_escaped() -> None:
    html = made(data(3))
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert not re.search(r"<b>&\d", html)
    assert "toy & <co>" in text_of(html)


def test_a_detector_has_one_colour_in_all_charts() -> None:
    html = made(data(8))
    legends = re.findall(r'<p class="legend">(.*?)</p>', html)
    assert len(legends) >= 4
    keys = [dict(re.findall(r'class="fill (c\d)"/></svg> (d\d)', one)) for one in legends]
    assert all(one == keys[0] for one in keys if len(one) == 8)
    assert len(keys[0]) == 8
    for colour, name in keys[0].items():
        found = set(re.findall(rf'<circle cx="5" cy="5" r="4.5" class="fill (c\d)"/></svg> {name}</span>', html))
        assert found == {colour}, name


def test_a_photograph_is_there_once_however_many_detectors() -> None:
    sizes = {n: made(data(n)).count("data:image/jpeg") for n in (1, 3)}
    assert sizes == {1: 12, 3: 12}
    few = replace(data(3), settings=CompareSettings(n_bootstrap=0, max_images=2))
    assert made(few).count("data:image/jpeg") == 2
    assert made(few).count("<figure><svg") == 2 * 4
    none = replace(data(3), settings=CompareSettings(n_bootstrap=0, max_images=0))
    assert "compare.max_images is 0" in text_of(made(none))


def test_images_say_why_they_are_shown_and_in_which_order() -> None:
    given = data(2)
    comparison = compare(given)
    html = made(given)
    apart = [float(value) for value in re.findall(r"F1 apart by ([\d.]+)", html)]
    assert apart == sorted(apart, reverse=True) and len(apart) == 12
    assert "largest difference between the highest and the lowest F1" in text_of(html)
    first = comparison.disputed[0]
    assert f"{given.tested[first].name}: F1 apart by" in text_of(html)
    assert re.search(r"\d+ right, \d+ wrong, \d+ missed, F1 [\d.]+", text_of(html))
    assert "One detector disagrees with none" in text_of(made(data(1)))


def test_what_is_missed_and_what_is_found_add_up() -> None:
    given = data(2)
    comparison = compare(given)
    for drawn, f1 in zip(comparison.drawn, comparison.f1, strict=True):
        for i, record in enumerate(given.tested):
            at = drawn.kept & (given.detectors[0].found["bbox"].image == i) if drawn is comparison.drawn[0] else None
            counted = ~(record.difficult | record.crowd)
            assert not (drawn.missed[i] & ~counted).any()
            if at is not None:
                right = int((drawn.right & at).sum())
                assert right == int(counted.sum()) - int(drawn.missed[i].sum())
                shown = int((at & ~drawn.ignored).sum())
                if shown + counted.sum():
                    assert f1[i] == pytest.approx(2 * right / (shown + counted.sum()))


def test_only_the_commonest_classes_are_shown_and_the_rest_summed_up() -> None:
    given = replace(data(2), settings=CompareSettings(n_bootstrap=0, max_classes=1))
    text = text_of(made(given))
    assert "mean of 2 more" in text
    assert "left out of the means: never" in text
    (shown,) = given.shown_classes()
    assert made(given).count("<figure><figcaption><b>") == 1
    figures = compare(given).figures[0]
    rest = [figures.scores["voc2010"]["AP"][name] for name in CLASSES[:3] if name != shown]
    assert percent(float(np.mean(rest))) in text
    assert "more" not in text_of(made(data(2))).split("Every class")[1].split("Precision")[0]


def test_the_best_is_bold_and_so_is_its_equal() -> None:
    assert best_in_bold([0.5, None, 0.70001, 0.7]) == ["50.0", "–", "<b>70.0</b>", "<b>70.0</b>"]
    assert best_in_bold([0.5]) == ["50.0"]
    assert best_in_bold([None, None]) == ["–", "–"]


def test_regions_of_several_detectors_share_a_line() -> None:
    text = text_of(made(data(4)))
    assert "d0, d1" in text
    assert "Without regions: d3" in text
    without = data(2)
    without = replace(without, detectors=[replace(one, proposals=None) for one in without.detectors])
    assert "No detector has regions" in text_of(made(without))


def test_parameters_are_those_that_differ_and_behind_a_fold_the_rest() -> None:
    given = data(2)
    other = {**PARAMETERS, "svm": {**PARAMETERS["svm"], "C": 0.01}, "bbox": {"enabled": True}}
    apart = replace(given, detectors=[given.detectors[0], replace(given.detectors[1], parameters=other)])
    html = made(apart)
    table, fold = html.split("<details>")
    assert "svm.C" in table and "svm.layers" not in table
    assert "svm.layers" in fold and "2 parameters that all share" in fold
    assert "(not set)" in table
    assert "All detectors have the same parameters." in made(given)


@pytest.mark.parametrize("first", [True, False])
def test_a_detector_that_found_nothing_has_its_place(first: bool) -> None:
    given = data(1)
    nothing = detector("none", NOTHING, [], costs={}, parameters={})
    both = [nothing, *given.detectors] if first else [*given.detectors, nothing]
    html = made(replace(given, detectors=both))
    self_contained(html)
    assert "0.0 to 0.0" in text_of(html)


def test_nothing_to_find_is_a_page_too() -> None:
    given = without_objects(data(2))
    html = made(given)
    checker = self_contained(html)
    assert {link[1:] for link in checker.links if link.startswith("#")} >= {"scores", "images", "cost", "digests"}
    text = text_of(re.sub("<style>.*?</style>", "", html, flags=re.DOTALL))
    assert "No object of the 12 test images is annotated" in text
    for word in ("F1", "wrong", "missed", "recall", "annotated:"):
        assert word not in text, word
    found = sum((one.found["bbox"].scores >= one.boundary).any() for one in given.detectors)
    assert found and " found" in text and 'class="box found"' in html
    nothing_shown = made(replace(given, detectors=[replace(one, boundary=1e9) for one in given.detectors]))
    assert "box found" not in nothing_shown


def test_only_difficult_objects_are_a_page_too() -> None:
    given = data(2)
    difficult = [replace(one, difficult=np.ones(len(one.labels), bool)) for one in given.tested]
    html = made(replace(given, tested=difficult))
    self_contained(html)
    assert "No class has a test object that counts" in text_of(html)
    assert "–" in text_of(html)
    assert "box truth" in made(given) and "box truth" not in html  # drawn as what does not count


def test_the_page_is_the_same_each_time() -> None:
    assert made(data(3)) == made(data(3))
