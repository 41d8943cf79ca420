"""``rcnn diagnose`` on files of results: what it writes, and one line for everything that is wrong with them."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparison_data import records_of
from evaluation_cases import random_case
from page_checks import self_contained

from manifests import Dataset, ImageRecord
from manifests.registry import register
from stages.diagnosis.document import diagnosed
from stages.diagnosis.settings import DiagnoseSettings
from stages.scoring.files import coco_results, comp4_lines, comp4_names, voc_image_ids
from stages.scoring.objects import FlatDetections

NAMES = ("cat", "dog", "sofa")
Run = Callable[..., tuple[int, str, str]]


class Given:
    """A registered dataset, and another program's results of its test images in both forms."""

    def __init__(self, project: Path) -> None:
        self.project = project
        truth, found = random_case(5, n_images=20)
        inside = np.clip(found.boxes, 0, 300)
        keep = ((inside[:, 2:] - inside[:, :2]) > 1).all(axis=1)
        self.found = FlatDetections(found.image[keep], found.labels[keep], inside[keep], found.scores[keep])
        self.truth, self.records = truth, records_of(truth)
        self.dataset = Dataset("pets", NAMES, tuple(self.records), (7, 8, 30))
        (project / "images").mkdir()
        register(self.dataset, project / "images", {}, project / "artifacts", source_format="coco")
        self.results = coco_results(self.found, [one.id for one in self.records], self.dataset.category_ids)
        self.coco = project / "results.json"
        self.write(self.results)
        self.voc = project / "comp4"
        self.voc.mkdir()
        names = voc_image_ids([one.file_name for one in self.records])
        for label, name in enumerate(comp4_names(NAMES)):
            (self.voc / name).write_text(comp4_lines(self.found, label, names))

    def write(self, results: list[dict[str, Any]]) -> None:
        self.coco.write_text(json.dumps(results))

    @property
    def out(self) -> Path:
        return self.project / "out"

    def figures(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / "diagnosis.json").read_text())
        return found


@pytest.fixture
def given(tmp_path: Path) -> Given:
    return Given(tmp_path)


@pytest.fixture
def diagnose(given: Given, run: Run) -> Run:
    def call(path: Path, *more: object) -> tuple[int, str, str]:
        return run(
            "-C", given.project, "diagnose", "--detections", path, "--dataset", "pets", "--out", given.out, *more
        )

    return call


@pytest.mark.parametrize("form", ["coco", "voc"])
def test_it_writes_what_the_diagnosis_finds(given: Given, diagnose: Run, form: str) -> None:
    code, out, err = diagnose(getattr(given, form))
    assert code == 0, err
    settings = DiagnoseSettings()
    direct = diagnosed("x", given.records, NAMES, {"bbox": given.found}, {}, settings)
    assert out == f"{given.out / 'diagnosis.html'}: {direct.summary()}\n"
    assert given.figures()["bbox"]["voc2010"] == pytest.approx(direct.first.voc2010, abs=1e-6)
    assert given.figures()["bbox"]["tide"]["counts"] == dict(direct.first.tide.counts if direct.first.tide else {})
    self_contained((given.out / "diagnosis.html").read_text())


def test_options_are_heard(given: Given, diagnose: Run) -> None:
    table = given.project / "t.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["annotation", "name", "value"], *([n + 1, "kind", n % 2] for n in range(9))])
    options = ("--matching", "hoiem", "--similar", "cat,dog", "--background-twice", "--normal-objects", 5, "--iou", 0.7)
    assert diagnose(given.coco, *options, "--characteristics", table)[0] == 0
    protocol = given.figures()["protocol"]
    assert protocol["similar_classes"] == [["cat", "dog"]] and protocol["normal_objects"] == 5.0
    assert (protocol["matching"], protocol["background_twice"], protocol["iou"]) == ("hoiem", True, 0.7)
    assert "kind" in given.figures()["bbox"]["means"]
    assert diagnose(given.coco, "--similar", "none")[0] == 0  # over its own earlier files
    assert given.figures()["protocol"]["similar_classes"] == []
    assert diagnose(given.coco, "--similar", "coco")[0] == 0
    assert list(given.figures()["bbox"]["sets"])[1] == "animal"


@pytest.mark.parametrize(
    ("names", "expected", "said"),
    [
        (("cat", "dog", "sofa"), "voc", "similar classes are voc's, by the dataset's names"),
        (("cat", "dog", "couch"), "coco", "similar classes are coco's, by the dataset's names"),
        (("red", "white", "platelet"), [], "no classes are similar, since few names are VOC's or COCO's"),
    ],
)
def test_without_similar_the_dataset_s_names_choose_and_a_note_says_it(
    given: Given, diagnose: Run, names: tuple[str, ...], expected: object, said: str
) -> None:
    register(
        Dataset("pets", names, tuple(given.records), (7, 8, 30)),
        given.project / "images",
        {},
        given.project / "artifacts",
        source_format="coco",
    )
    code, _, err = diagnose(given.coco)
    assert code == 0 and f"note: {said}; --similar gives" in err
    assert given.figures()["protocol"]["similar_classes"] == expected
    code, _, err = diagnose(given.coco, "--similar", "voc")
    assert code == 0 and "--similar" not in err
    assert given.figures()["protocol"]["similar_classes"] == "voc"


def test_shares_of_objects_and_numbers_of_classes(given: Given, diagnose: Run) -> None:
    assert diagnose(given.coco)[0] == 0
    assert given.figures()["protocol"]["normal_objects"] == pytest.approx(0.15 * 20)
    every = (given.out / "diagnosis.html").read_text()
    code, _, err = diagnose(given.coco, "--normal-share", 0.4, "--max-classes", 1)
    assert code == 0, err
    assert given.figures()["protocol"]["normal_objects"] == pytest.approx(0.4 * 20)
    one = (given.out / "diagnosis.html").read_text()
    shown = [len(set(re.findall(r"<tr><t[dh][^>]*>(cat|dog|sofa)<", text))) for text in (every, one)]
    assert shown == [3, 1]
    assert len(given.figures()["bbox"]["subsets"]) == 3  # the JSON has all


BAD: list[tuple[dict[str, Any], str]] = [
    ({"image_id": 5000}, "image 5000 is none of the 20 test images"),
    ({"category_id": 1}, "category_id 1 is none of the dataset's: 7 (cat), 8 (dog), 30 (sofa)"),
    ({"score": float("nan")}, "score nan is no finite number; leave the result out"),
    ({"bbox": [0, 0, -1, 5]}, "has no extent; leave the result out"),
    ({"bbox": [0, 0, 500, 5]}, "leaves the 300 x 300 image"),
]


@pytest.mark.parametrize(("wrong", "said"), BAD)
def test_a_bad_detection_is_one_line(given: Given, diagnose: Run, wrong: dict[str, Any], said: str) -> None:
    given.write([given.results[0] | wrong, *given.results[1:]])
    code, out, err = diagnose(given.coco)
    assert (code, out) == (2, "") and len(err.splitlines()) == 1
    assert err.startswith(f"rcnn: {given.coco}: result 1: ") and said in err
    assert not given.out.exists()


def test_all_that_is_wrong_is_told_at_once(given: Given, diagnose: Run) -> None:
    given.write([given.results[0] | wrong for wrong, _ in BAD])
    assert len(diagnose(given.coco)[2].splitlines()) == len(BAD)


def test_a_class_of_comp4_files_that_the_dataset_lacks(given: Given, diagnose: Run) -> None:
    (given.voc / "comp4_det_test_cow.txt").write_text("")
    code, _, err = diagnose(given.voc)
    assert code == 2 and "comp4_det_test_cow.txt: class 'cow' is none of the dataset's: cat, dog, sofa" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--split", "val"], "there is no split 'val'; choose one of: test"),
        (["--similar", "cat,dgo"], "class 'dgo' is none of the dataset's (did you mean 'dog'?)"),
        (["--similar", "none", "--similar", "voc"], "--similar none voc: voc, coco and none stand alone"),
        (["--similar", "cat,dog", "--similar", "coco"], "voc, coco and none stand alone; give one of them, or lists"),
        (["--normal-share", "0.2", "--normal-objects", "9"], "--normal-share and --normal-objects: give one"),
        (["--iou", "nan"], "--iou nan: is no number"),
        (["--normal-share", "nan"], "--normal-share nan: is no number"),
        (["--dataset", "pots"], "dataset 'pots' is not registered"),
        (["--characteristics", "absent.csv"], "absent.csv"),
    ],
)
def test_a_wrong_option_is_told(given: Given, diagnose: Run, arguments: list[str], said: str) -> None:
    code, out, err = diagnose(given.coco, *arguments)
    assert (code, out) == (2, "") and said in err and len(err.splitlines()) == 1
    assert not given.out.exists()


@pytest.mark.parametrize("arguments", [("--iou", "0.05"), ("--normal-share", "0"), ("--max-classes", "0")])
def test_a_number_out_of_its_range_is_told(given: Given, diagnose: Run, arguments: tuple[str, str]) -> None:
    code, out, err = diagnose(given.coco, *arguments)
    assert (code, out) == (2, "") and f"{arguments[1]} is not in the range" in err.splitlines()[-1]
    assert not given.out.exists()


def test_every_class_that_the_dataset_lacks_is_told(given: Given, diagnose: Run) -> None:
    code, _, err = diagnose(given.coco, "--similar", "cat,dgo", "--similar", "sofa,cow")
    assert code == 2 and len(err.splitlines()) == 2 and "class 'dgo'" in err and "class 'cow'" in err


def test_one_comp4_file_is_no_folder(given: Given, diagnose: Run) -> None:
    code, _, err = diagnose(given.voc / "comp4_det_test_cat.txt")
    assert code == 2 and "give the folder, which has one for each class" in err and len(err.splitlines()) == 1


def test_files_of_the_user_s_stay(given: Given, diagnose: Run) -> None:
    given.out.mkdir()
    (given.out / "diagnosis.json").write_text("mine")
    code, _, err = diagnose(given.coco)
    assert code == 2 and "would be replaced" in err and (given.out / "diagnosis.json").read_text() == "mine"


def test_a_set_of_images_without_annotations(given: Given, diagnose: Run) -> None:
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    bare = [ImageRecord(one.id, one.file_name, 300, 300, one.sha256, "test", *none) for one in given.records]
    register(
        Dataset("pets", NAMES, tuple(bare)),
        given.project / "images",
        {},
        given.project / "artifacts",
        source_format="coco",
    )
    code, _, err = diagnose(given.coco)
    assert code == 2 and "dataset pets, split test: no object that counts is annotated in the 20 images" in err
