"""The page as a whole, made from a small run with awkward names; and its parts."""

import base64
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from report_data import CLASSES, data, metrics

from cache.environment import Environment
from cache.errors import StageError
from cache.listing import Environments
from stages.page.charts import Axis, Series, line_chart, nice_ticks, stacked_bars
from stages.page.markup import Markup, table, tag
from stages.page.pictures import Mark, jpeg_uri, picture, window
from stages.report.inputs import numbers, read_rows
from stages.report.page import page
from stages.report.settings import ReportSettings

_VOID = {"meta", "br", "rect", "line", "path", "circle", "image", "polyline"}


class Checker(HTMLParser):
    """Collects elements and fails on one that is closed out of turn."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.ids, self.links, self.text = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href")]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in _VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parsed(html):
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    return checker


def test_environments_are_a_table_that_says_when_there_are_several_or_none_is_known():
    def shown(**counts):
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


def test_page_is_whole_and_self_contained():
    html = page(data())
    checker = parsed(html)
    assert "script" not in checker.tags
    assert "link" not in checker.tags
    assert not re.search(r"https?:|//[a-z]|url\(|@import", html)
    assert all(link.startswith(("#", "data:image/jpeg;base64,")) for link in checker.links)
    targets = {link[1:] for link in checker.links if link.startswith("#")}
    assert targets == set(checker.ids)
    assert {"scores", "pr", "mistakes", "proposals", "mining", "timings", "parameters", "digests"} <= targets


def test_page_escapes_every_name():
    html = page(data())
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "<co>" not in html
    assert "<b>&1" not in html
    assert "toy & <co>" in "".join(parsed(html).text)


def test_page_shows_scores_parameters_and_kinds():
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


def test_page_is_the_same_each_time():
    assert page(data()) == page(data())


@pytest.mark.parametrize(("method", "expected"), [("warp", "R-CNN on"), ("spp", "SPP-net on")])
def test_the_page_names_the_method(method, expected):
    parameters = {**data().parameters, "features": {"layers": ["fc7"], "method": method}}
    text = " ".join(parsed(page(data(parameters=parameters))).text)
    assert expected in text
    assert ("He et al. 2014" in text) == (method == "spp")


def test_parts_that_did_not_run_are_said():
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


def test_pre_training_has_no_windows():
    curve = data().finetune
    assert "all windows" in page(data()) and "all pictures" not in page(data())
    pictures = page(data(pretrain=curve, finetune=[]))
    assert "all pictures" in pictures and "all windows" not in pictures


def test_examples_keep_to_their_limit():
    assert page(data()).count("<figcaption>&lt;b&gt;&amp;") == 2 + 4
    few = page(data(settings=ReportSettings(max_examples=3, random_images=1)))
    assert few.count("<figcaption>&lt;b&gt;&amp;") == 1 + 3
    none = page(data(settings=ReportSettings(max_examples=0, random_images=0)))
    assert none.count("data:image/jpeg") == 0


def test_only_the_commonest_classes_are_shown():
    one = data(settings=ReportSettings(max_classes=1))
    assert one.shown_classes() == ["cat"]
    assert "The 1 classes with most test objects; 2 more" in " ".join(parsed(page(one)).text)
    assert data().shown_classes() == list(CLASSES)


def test_whole_images_show_the_detections_worth_showing():
    assert page(data()).count(": 1 found, ") == 2


def test_a_page_without_any_score_is_still_a_page():
    values = metrics()
    for part in (values, values["no_bbox"]):
        part["voc2007"] = {"mAP": None, "AP": dict.fromkeys(CLASSES)}
        part["voc2010"] = {"mAP": None, "AP": dict.fromkeys(CLASSES)}
        part["coco"] = {"AP": None, "AP50": None, "AP75": None, "AP_class": dict.fromkeys(CLASSES)}
    values["bbox_gain"] = {"voc2010": {"mAP": None}}
    values["proposals"].update(per_image=None, recall_50=None)
    assert "–" in " ".join(parsed(page(data(metrics=values, pr=[], errors=[]))).text)


def test_markup_escapes_text_and_attributes_but_not_markup():
    assert tag("p", "a<b", tag("b", "&"), title='"') == '<p title="&quot;">a&lt;b<b>&amp;</b></p>'
    assert tag("rect", x=1.5, stroke_width=2, class_="c0", name=None) == '<rect x="1.5" stroke-width="2" class="c0"/>'
    assert isinstance(tag("p"), Markup)
    assert table(["a", "b"], [["x", "1"]]).count('class="number"') == 2


@pytest.mark.parametrize("span", [(0, 1), (0, 0), (3, 3), (0, 0.037), (-2.2, 5), (0, 123456), (1e-9, 3e-9)])
def test_ticks_are_few_and_span_the_data(span):
    ticks = nice_ticks(*span)
    assert ticks[0] <= span[0] + 1e-12
    assert ticks[-1] >= span[1] - 1e-12
    assert 2 <= len(ticks) <= 8
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])


def test_line_chart_puts_points_where_they_belong():
    svg = line_chart(
        [Series("a", [0, 1], [0, 1])], Axis("x", 0, 1), Axis("y", 0, 1), width=264, height=144, label_width=0
    )
    (points,) = re.findall(r'points="([^"]+)"', svg)
    assert points == "54,108 254,8"
    single = line_chart([Series("a", [2], [3])], Axis("x"), Axis("y"))
    assert single.count("<circle") == 1
    assert "NaN" not in line_chart([Series("a", [0, 1], [float("nan"), 1])], Axis("x"), Axis("y"))


def test_end_labels_do_not_cover_each_other():
    lines = [Series(f"line {i}", [0, 1], [0, 0.5 + 0.001 * i]) for i in range(6)]
    svg = line_chart(lines, Axis("x", 0, 1), Axis("y", 0, 1))
    ys = sorted(float(y) for y in re.findall(r'y="([\d.]+)" class="name', svg))
    assert len(ys) == 6
    assert min(np.diff(ys)) >= 13


def test_bars_have_lengths_in_proportion():
    svg = stacked_bars([("a", [3, 1])], [("x", "c0"), ("y", "c1")])
    long, short = (float(w) for w in re.findall(r'width="([\d.]+)" height="16"', svg))
    assert long + 1 == pytest.approx(3 * (short + 1), rel=1e-5)
    assert stacked_bars([("a", [0, 0])], [("x", "c0"), ("y", "c1")]).count('height="16"') == 0


@pytest.mark.parametrize(
    "box", [(10, 10, 20, 20), (-5, 0, 300, 200), (199, 99, 200, 100), (150, 20, 150, 20), (250, 150, 260, 160)]
)
def test_window_lies_in_the_photograph_and_holds_the_box(box):
    x1, y1, x2, y2 = window(box, 200, 100)
    assert 0 <= x1 < x2 <= 200
    assert 0 <= y1 < y2 <= 100
    if box[2] <= 200:
        assert x1 <= max(box[0], 0)
        assert x2 >= min(box[2], 200)


def test_picture_is_the_right_part_in_the_right_colours():
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[:, 100:] = (250, 10, 10)  # red on the right
    figure = picture(
        pixels, [Mark((120, 20, 160, 60), "right", "x")], "c", part=(100, 0, 200, 100), longest_px=50, quality=90
    )
    data_uri = re.search(r"base64,([^\"]+)", figure).group(1)
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data_uri), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert decoded.shape == (50, 50, 3)
    assert np.abs(decoded.mean((0, 1)) - (250, 10, 10)).max() < 6
    assert 'class="box right" x="10" y="10" width="20" height="20"' in figure
    assert jpeg_uri(pixels, 75).startswith("data:image/jpeg;base64,")


def test_tables_without_rows_or_columns(tmp_path):
    path = tmp_path / "mining.csv"
    path.write_text("class,fit\n")
    assert read_rows(path, ("class", "fit")) == []
    with pytest.raises(StageError, match=r"mining.csv: lacks the column 'objective'"):
        read_rows(path, ("class", "objective"))
    assert np.isnan(numbers([{"a": ""}], "a")[0])


def test_another_seed_draws_other_images():
    one = ReportSettings(random_images=1, max_examples=0)
    assert len({page(data(seed=seed, settings=one)) for seed in range(8)}) == 2


def test_settings_bound_the_page():
    with pytest.raises(ValueError, match="picture_px"):
        ReportSettings(picture_px=10_000)
