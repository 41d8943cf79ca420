"""The page as a whole, made from a small run with awkward names."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_checks import parsed, self_contained
from report_data import CLASSES, data, metrics, record

from cache.environment import Environment
from cache.errors import StageError
from cache.listing import Environments
from stages.report.inputs import numbers, read_rows
from stages.report.page import page
from stages.report.settings import ReportSettings


def test_environments_are_a_table_that_says_when_there_are_several_or_none_is_known() -> None:
    def shown(**counts: Any) -> str:
        environments = {stage: Environments(of, sum(of.values()), sum(of.values())) for stage, of in counts.items()}
        return page(data(environments=environments))

    names = [("4.10.0", "cpu"), ("<5>", "cpu"), ("<5>", "cuda H200")]
    old, new, gpu = (Environment.from_json({"opencv": version, "device": device}) for version, device in names)
    assert "environments" not in page(data()).lower()
    one, several, unknown = "One environment computed", "Several environments computed", "not recorded"
    for html, said in (
        (shown(proposals={new: 3}, features={new: 3}), {one}),
        (shown(proposals={new: 3}, features={gpu: 3}), {one}),  # networks run on it, proposals do not
        (shown(features={new: 3, gpu: 2}), {several}),
        (shown(proposals={old: 3}, features={new: 3}), {several}),
        (shown(proposals={None: 3}, features={new: 3}), {one, unknown}),
        (shown(proposals={None: 3}), {unknown}),
    ):
        parsed(html)
        assert {text for text in (one, several, unknown) if text in html} == said
    assert "&lt;5&gt;" in shown(features={new: 3})
    html = page(data(environments={"features": Environments({old: 200, None: 50}, 250, 5000)}))
    assert "200 of 250 looked at" in html and "an even sample" in html


def test_page_is_whole_and_self_contained() -> None:
    html = page(data())
    checker = self_contained(html)
    targets = {link[1:] for link in checker.links if link.startswith("#")}
    assert targets == set(checker.ids)
    assert {"scores", "pr", "mistakes", "proposals", "mining", "timings", "parameters", "digests"} <= targets


def test_page_escapes_every_name() -> None:
    html = page(data())
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "<co>" not in html
    assert "<b>&1" not in html
    assert "toy & <co>" in "".join(parsed(html).text)


def test_page_shows_scores_parameters_and_kinds() -> None:
    text = " ".join(parsed(page(data())).text)
    for expected in (
        "alexnet, weights: IMAGENET1K_V1; features from pool5, fc7.",
        "52.0",
        "40.0 to 61.0",
        "−1.0",
        "1.25",
        "found a second time",
        "ab" * 32,
        "svm.C",
        "1 min 15 s",
        "never",
    ):
        assert expected in text, expected


def test_page_is_the_same_each_time() -> None:
    assert page(data()) == page(data())


@pytest.mark.parametrize(("method", "expected"), [("warp", "R-CNN on"), ("spp", "SPP-net on")])
def test_the_page_names_the_method(method: str, expected: str) -> None:
    parameters = {**data().parameters, "features": {"layers": ["fc7"], "method": method}}
    text = " ".join(parsed(page(data(parameters=parameters))).text)
    assert expected in text
    assert ("He et al. 2014" in text) == (method == "spp")


def test_parts_that_did_not_run_are_said() -> None:
    html = page(
        data(
            mining=[],
            finetune=[],
            pretrain=[],
            timings={},
            pr=[],
            errors=[],
            recall_iou=[],
            classifier="softmax",
            regressed=False,
            combined=("ours", "5 scales"),
        )
    )
    text = " ".join(parsed(html).text)
    for expected in (
        "No SVM was trained",
        "not fine-tuned",
        "not pre-trained",
        "No times are known",
        "softmax",
        "no box regression",
        "was off",
        "together with those of saved detectors: ours, 5 scales",
    ):
        assert expected in text, expected


def test_without_annotations_the_page_shows_what_was_found_and_no_score() -> None:
    bare = [record(image_id, "test", np.zeros((0, 4)), []) for image_id in (1, 2)]
    none = metrics()
    none["protocol"] |= {"objects": 0, "difficult": 0, "crowd": 0}
    html = page(
        data(tested=bare, metrics=none, shown_from=dict.fromkeys(CLASSES, 0.5), pr=[], recall_iou=[], errors=[])
    )
    checker = self_contained(html)
    targets = {link[1:] for link in checker.links if link.startswith("#")}
    assert targets == set(checker.ids)
    assert {"scores", "images", "mining", "timings", "digests"} <= targets
    assert not targets & {"classes", "pr", "mistakes", "examples", "proposals"}
    text = " ".join(parsed(html).text)
    assert "No object of the 2 test images is annotated" in text
    assert "1 found" in text and "annotated objects are dashed" not in text and "score at least 0.5" in text


def test_pre_training_has_no_windows() -> None:
    curve = data().finetune
    assert "all windows" in page(data()) and "all pictures" not in page(data())
    pictures = page(data(pretrain=curve, finetune=[]))
    assert "all pictures" in pictures and "all windows" not in pictures


def test_a_curve_without_held_out_values_is_that_of_training_alone() -> None:
    told = "Nothing was kept aside to measure on"
    assert told not in page(data())
    rows = [{**row, "val_accuracy": ""} for row in data().finetune]
    for curve in (rows, [{"iteration": row["iteration"], "train_loss": row["train_loss"]} for row in rows]):
        text = page(data(finetune=curve))
        assert text.count(told) == 1
        assert "held out" not in text and "all windows" not in text
        assert text.count("loss, nats") == 1


def test_examples_keep_to_their_limit() -> None:
    assert page(data()).count("<figcaption>&lt;b&gt;&amp;") == 2 + 4 + 2
    few = page(data(settings=ReportSettings(max_examples=3, random_images=1)))
    assert few.count("<figcaption>&lt;b&gt;&amp;") == 1 + 3 + 1
    none = page(data(settings=ReportSettings(max_examples=0, random_images=0)))
    assert none.count("data:image/jpeg") == 0


def test_only_the_commonest_classes_are_shown() -> None:
    one = data(settings=ReportSettings(max_classes=1))
    assert one.shown_classes() == ["cat"]
    assert "The 1 classes with most test objects; 2 more" in " ".join(parsed(page(one)).text)
    assert data().shown_classes() == list(CLASSES)


def test_whole_images_show_the_detections_worth_showing() -> None:
    assert page(data()).count(": 1 found, ") == 2


def test_a_page_without_any_score_is_still_a_page() -> None:
    values = metrics()
    for part in (values, values["no_bbox"]):
        part["voc2007"] = {"mAP": None, "AP": dict.fromkeys(CLASSES)}
        part["voc2010"] = {"mAP": None, "AP": dict.fromkeys(CLASSES)}
        part["coco"] = {"AP": None, "AP50": None, "AP75": None, "AP_class": dict.fromkeys(CLASSES)}
    values["bbox_gain"] = {"voc2010": {"mAP": None}}
    values["proposals"].update(per_image=None, recall_50=None)
    assert "–" in " ".join(parsed(page(data(metrics=values, pr=[], errors=[]))).text)


def test_tables_without_rows_or_columns(tmp_path: Path) -> None:
    path = tmp_path / "mining.csv"
    path.write_text("class,fit\n")
    assert read_rows(path, ("class", "fit")) == []
    with pytest.raises(StageError, match=r"mining.csv: lacks the column 'objective'"):
        read_rows(path, ("class", "objective"))
    assert np.isnan(numbers([{"a": ""}], "a")[0])


def test_another_seed_draws_other_images() -> None:
    one = ReportSettings(random_images=1, max_examples=0)
    assert len({page(data(seed=seed, settings=one)) for seed in range(8)}) == 2


def test_settings_bound_the_page() -> None:
    with pytest.raises(ValueError, match="picture_px"):
        ReportSettings(picture_px=10_000)


def test_detections_of_a_precision_above_a_half_are_labelled_with_it() -> None:
    html = page(data())
    assert "Detections of a precision above 0.5" in html
    shown = html[html.index("Detections of a precision above 0.5") :]
    assert "cat 1.00" in shown  # score 1.5, above the best of the curve
    assert "1 shown" in shown  # the other scores 0.1, less than any that was evaluated
    assert html.count("Detections of a precision above 0.5") == 1
    few = page(data(settings=ReportSettings(random_images=0)))
    assert "Detections of a precision above 0.5" not in few
    none = [{**row, "precision": "0.0", "recall": "0.0"} for row in data().pr]
    assert "0 shown" in page(data(pr=none))
    assert "Detections of a precision" not in page(data(pr=[]))
