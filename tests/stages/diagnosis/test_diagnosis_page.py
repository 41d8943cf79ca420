"""The page and the document of a diagnosis on awkward input: strange names, nothing wrong, nothing to compare."""

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from comparison_data import CLASSES, EVIL, moved, records_of
from evaluation_cases import random_case
from page_checks import self_contained

from manifests import ImageRecord
from stages.diagnosis.document import Diagnosed, diagnosed, nothing_annotated
from stages.diagnosis.page import page
from stages.diagnosis.settings import DiagnoseSettings
from stages.diagnosis.similar import named_sets, shown_sets
from stages.scoring.objects import FlatDetections, GroundTruth

SETTINGS = DiagnoseSettings(similar_classes=((CLASSES[0], EVIL), ("absent", "dog")))


def made(seed: int = 1, *, sets: int = 2, **changes: Any) -> Diagnosed:
    truth, found = random_case(seed, n_images=60, crowd=0.05)
    found_in = {"bbox": found, "no_bbox": moved(found, 2)}
    each = {name: found_in[name] for name in list(found_in)[:sets]}
    table = {f"part.{EVIL[1:7]}": {row: str(row % 2) for row in range(len(truth.labels))}}
    return diagnosed(f"<i>{EVIL}", records_of(truth), CLASSES, each, table, replace_settings(**changes))


def replace_settings(**changes: Any) -> DiagnoseSettings:
    return SETTINGS.model_copy(update=changes)


@pytest.mark.parametrize("sets", [1, 2])
def test_the_page_is_whole_and_escapes_names(sets: int) -> None:
    checker = self_contained(page(made(sets=sets)))
    assert {"scores", "false-positives", "sensitivity", "characteristics", "tide"} <= set(checker.ids)
    said = " ".join(checker.text)
    assert EVIL in said and ("with box regression" in said) == (sets == 2)
    assert f"{CLASSES[0]}, {EVIL}" in said  # the set of similar classes


def test_equal_input_gives_equal_bytes() -> None:
    assert page(made()) == page(made())
    assert json.dumps(made().document()) == json.dumps(made().document())


def test_the_document_has_every_figure_and_is_json() -> None:
    one = made()
    document = json.loads(json.dumps(one.document(), allow_nan=False))
    assert list(document) == ["protocol", "notes", "bbox", "no_bbox"]
    assert document["protocol"]["matching"] == "voc" and document["protocol"]["normal_objects"] == 9.0
    assert document["notes"][0] == "no object that counts, so left out of the means: never"
    of = document["bbox"]
    assert set(of["sets"]) == {"all classes", f"{CLASSES[0]}, {EVIL}", *CLASSES[:3]}
    assert set(of["means"]) == {"area", "aspect", "part.script"}
    assert of["voc2010"] == one.first.voc2010


def test_the_number_to_normalise_to_may_be_given() -> None:
    assert made(normal_objects=30.0).document()["protocol"]["normal_objects"] == 30
    few, many = (made(normal_objects=n).first.normalised for n in (3.0, 300.0))
    assert few is not None and many is not None and few < many


def perfect(truth: GroundTruth) -> FlatDetections:
    return FlatDetections(truth.image, truth.labels, truth.boxes, np.ones(len(truth.labels), np.float32))


def test_no_false_positives_and_one_value_alone_are_said() -> None:
    truth, _ = random_case(3, n_images=30, difficult=0.0)
    same = replace(truth, boxes=np.tile(np.array([5, 5, 25, 25], np.float32), (len(truth.labels), 1)))
    keep = np.unique(same.image * 10 + same.labels, return_index=True)[1]  # one object of a class in an image
    same = replace(same, **{n: getattr(same, n)[keep] for n in ("image", "labels", "boxes", "difficult", "crowd")})
    one = diagnosed("perfect", records_of(same), CLASSES, {"bbox": perfect(same)}, {}, SETTINGS)
    assert one.notes[1:] == [
        "there are no false positives, so there is nothing to tell apart",
        "characteristic area: one value alone (extra small), so nothing to compare",
        "characteristic aspect: one value alone (extra tall), so nothing to compare",
    ]
    assert one.first.normalised == pytest.approx(1.0)
    checker = self_contained(page(one))
    assert "0 false positives: fewer than the first step." in " ".join(checker.text)


def test_an_empty_bin_is_said() -> None:
    rows = [{"hidden": 0.0}, {"hidden": 0.5}]
    boxes = np.array([[0, 0, 10, 10], [20, 20, 40, 40]], np.float32)
    image = ImageRecord(1, "1.jpg", 50, 50, "0" * 64, "test", boxes, np.array([0, 0]), details=tuple(rows))
    one = diagnosed("two", [image], ("a",), {"bbox": FlatDetections.of([])}, {}, DiagnoseSettings())
    assert "characteristic hidden: no object is in low, moderate" in one.notes
    assert one.first.voc2010 == 0.0
    self_contained(page(one))


def test_no_object_that_counts_is_an_error_before_anything_is_done() -> None:
    image = ImageRecord(1, "1.jpg", 9, 9, "0" * 64, "test", np.array([[0, 0, 5, 5]]), np.array([0]), np.array([True]))
    said = nothing_annotated([image], "manifest.test")
    assert said is not None and said.startswith("manifest.test: no object that counts is annotated in the 1 image,")
    assert nothing_annotated([replace(image, difficult=np.array([False]))], "x") is None


def test_voc_and_coco_have_their_sets() -> None:
    assert shown_sets("voc", ("cat", "dog", "person", "sofa")) == {"animals": ("cat", "dog")}
    assert shown_sets("coco", ("cat", "dog", "bench", "tv", "laptop")) == {
        "animal": ("cat", "dog"),
        "electronic": ("tv", "laptop"),
    }
    assert shown_sets((), ("cat", "dog")) == {}


@pytest.mark.parametrize(("named", "similar"), [("voc", "similar"), ("coco", "other"), ((), "other")])
def test_similar_classes_say_what_a_mistake_is(named: Any, similar: str) -> None:
    """A person is similar to a cat for VOC, and nothing like one for COCO."""
    box = np.array([[0, 0, 9, 9]], np.float32)
    image = ImageRecord(1, "1.jpg", 9, 9, "0" * 64, "test", box, np.array([0]))
    wrong = FlatDetections.of([(box, np.ones(1, np.float32), np.array([1]))])
    one = diagnosed("d", [image], ("person", "cat"), {"bbox": wrong}, {}, replace_settings(similar_classes=named))
    found = one.first.sets["cat"].detections
    assert found == [] and one.first.sets["cat"].n_false_positives == 1
    whole = one.first.sets["all classes"].detections[0]
    assert getattr(whole, similar) == 1


@pytest.mark.parametrize(
    ("classes", "named"),
    [
        (("cat", "dog"), "voc"),
        (("car", "motorbike", "sofa"), "voc"),
        (("car", "motorcycle", "truck"), "coco"),
        (("zero", "one"), []),
        (("cat", "fox"), []),
    ],
)
def test_the_sets_of_a_new_dataset(classes: tuple[str, ...], named: Any) -> None:
    assert named_sets(classes) == named


@pytest.mark.parametrize(
    ("named", "classes", "expected"),
    [
        ("coco", ("animal", "cat", "dog"), "animal (set)"),
        ((("cat", "dog"),), ("cat, dog", "cat", "dog"), "cat, dog (set)"),
        ("coco", ("animal (set)", "animal", "cat", "dog"), "animal (set) (set)"),
    ],
)
def test_a_set_that_is_called_as_a_class_is_the_set_all_the_same(
    named: Any, classes: tuple[str, ...], expected: str
) -> None:
    """One object of the first class, two and three of the set's; ``all classes`` may be a class, too."""
    classes = (*classes, "all classes")
    labels = np.array([classes.index(name) for name in (classes[0], "cat", "cat", "dog", "dog", "dog")])
    boxes = np.array([[10 * i, 0, 10 * i + 9, 9] for i in range(6)], np.float32)
    image = ImageRecord(1, "1.jpg", 99, 9, "0" * 64, "test", boxes, labels)
    settings = replace_settings(similar_classes=named)
    one = diagnosed("d", [image], classes, {"bbox": FlatDetections.of([])}, {}, settings)
    counts = {name: found.n_objects for name, found in one.first.sets.items()}
    assert counts == {"all classes (set)": 6, expected: 5, classes[0]: 1, "cat": 2, "dog": 3}
    assert expected in self_contained(page(one)).text


def test_classes_that_are_not_shown_are_counted() -> None:
    few = made(max_classes=2)
    line = "2 of 3 classes are shown one by one, those with most objects; diagnosis.json has all"
    assert line in few.notes and not any("one by one" in note for note in made(max_classes=3).notes)
    counts = sorted(few.counts.values())
    assert [few.counts[name] for name in few.shown_classes] != counts[:2] and len(few.shown_classes) == 2
    said = self_contained(page(few)).text
    assert said.count(line) == 1 and said.count(f"{line}.") == 2  # among the notes, and at both tables


@pytest.mark.parametrize("named", [(), ((CLASSES[0], EVIL),)])
def test_a_kind_that_cannot_be_is_not_in_the_legends_and_this_is_said(named: Any) -> None:
    said = " ".join(self_contained(page(made(similar_classes=named))).text)
    assert ("No classes are similar here" in said) == (not named)
    assert ("similar class " in said) == ("no Sim" in said) == bool(named)


def test_axes_are_in_percent_as_the_figures_beside_them() -> None:
    text = page(made())
    ticks = set(re.findall(r'class="tick" text-anchor="middle">([^<]*)<', text))
    assert ticks == {"0", "20", "40", "60", "80", "100"}
    assert {"normalised AP, %", "AP, %"} <= set(self_contained(text).text)


def test_nothing_detected_finds_nothing_and_notes_are_on_the_page() -> None:
    truth, _ = random_case(3, n_images=30)
    nothing = {"bbox": FlatDetections.of([])}
    one = diagnosed("d", records_of(truth), CLASSES, nothing, {}, SETTINGS, ["30 of 30 images have no detections"])
    assert set(one.first.whole.recalls) == {(0.0, 0.0)}
    assert one.document()["notes"][0] == "30 of 30 images have no detections"
    assert "30 of 30 images have no detections" in self_contained(page(one)).text
