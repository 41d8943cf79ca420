"""The sections about how the detector was trained: the network's curves and the SVMs' mining."""

from collections.abc import Collection, Mapping, Sequence

from stages.page.charts import ChartAxis, Series, line_chart
from stages.page.markup import Markup, join, section, table, tag

from .inputs import PageData, Row, numbers

_MAX_NAMED = 8
_CURVE_NAMES = {
    "train_loss": "training",
    "val_loss": "held out",
    "val_fg_accuracy": "windows on objects",
}

# Titles of the trainings behind or before a shared feature map, by node, in their order.
SHARED_TRAININGS = {
    "rpn_1": "Step 1: region proposal network, with all convolutions",
    "fast_1": "Step 2: Fast R-CNN on its proposals, with all convolutions",
    "rpn_2": "Step 3: region proposal network, behind the convolutions of step 2",
    "fast_2": "Step 4: Fast R-CNN's fully connected layers, behind the same convolutions",
    "fast": "Fast R-CNN",
    "joint": "Region proposal network and Fast R-CNN at once",
    "finetune_dense": "The fully connected layers, on windows of objects and of background",
    "regress": "The box regressor, behind the same convolutions",
}
_TERMS = {
    "train_loss": "all",
    "train_rpn_cls": "objectness",
    "train_rpn_box": "anchors' boxes",
    "train_cls": "classes",
    "train_box": "regions' boxes",
}


def network_curves(data: PageData) -> Markup:
    """Name the network, and draw the curves of its trainings."""
    network = data.parameters["network"]
    what = f"{network['name']}, weights: {network['weights']}"
    parts = []
    if "features" in data.parameters:
        what += f"; features from {', '.join(data.parameters['features']['layers'])}"
        parts = [_curves(data.finetune, "Fine-tuning on proposals", "windows", "fine-tuned")]
    parts += [_losses(rows, SHARED_TRAININGS[name]) for name, rows in data.shared_trainings.items()]
    first = _curves(data.pretrain, "Pre-training on whole pictures", "pictures", "pre-trained")
    return section("network", "The network", tag("p", f"{what}."), first, *parts)


def _losses(rows: Sequence[Row], title: str) -> Markup:
    """Draw the terms of one training's loss, means since the point before."""
    series = [
        _curve(rows, name, text, f"c{i}")
        for i, (name, text) in enumerate(_TERMS.items())
        if any(row.get(name) for row in rows)
    ]
    chart = line_chart(series, ChartAxis("iteration"), ChartAxis("loss", 0), width=500, height=240)
    return join(tag("h3", title), tag("div", chart))


def _curves(rows: Sequence[Row], title: str, samples: str, done: str) -> Markup:
    """Draw the curves of one training. ``samples``: what the network is trained on; ``done``: what was done to it."""
    if not rows:
        return tag("p", f"The network was not {done} in this run.", class_="note")
    named = _CURVE_NAMES | {"val_accuracy": f"all {samples}"}
    columns = [name for name in rows[0] if name != "iteration"]
    charts = []
    for kind, label in (("loss", "loss, nats"), ("accuracy", "accuracy")):
        names = [name for name in columns if name.endswith(kind) and any(row[name] for row in rows)]
        series = [_curve(rows, name, named.get(name, name.replace("_", " ")), f"c{i}") for i, name in enumerate(names)]
        if series:
            high = 1.0 if kind == "accuracy" else None
            charts.append(
                tag("div", line_chart(series, ChartAxis("iteration"), ChartAxis(label, 0, high), width=500, height=240))
            )
    held_out = any(row[name] for row in rows for name in columns if name.startswith("val_"))
    note = "Nothing was kept aside to measure on: the curve is that of training alone."
    notes = [] if held_out else [tag("p", note, class_="note")]
    return join(tag("h3", title), *notes, tag("div", *charts, class_="columns"))


def _curve(rows: Sequence[Row], column: str, name: str, style: str) -> Series:
    kept = [row for row in rows if row[column]]
    return Series(name, numbers(kept, "iteration"), numbers(kept, column), style)


def mining(data: PageData) -> Markup:
    """Draw objective and cached negatives of each class after each fit, and the last fit in numbers."""
    if not data.mining:
        return section("mining", "Hard negative mining", tag("p", "No SVM was trained in this run.", class_="note"))
    by_class: dict[str, list[Row]] = {}
    for row in data.mining:
        by_class.setdefault(row["class_name"], []).append(row)
    named = set(data.shown_classes()[:_MAX_NAMED] if len(by_class) <= _MAX_NAMED else ())
    charts = [
        _mining_chart(by_class, column, label, named)
        for column, label in (("objective", "objective after the fit"), ("negatives", "negatives cached"))
    ]
    text = (
        "Each class's SVM is fitted again whenever enough regions have been found that it wrongly takes for its class. "
        "The objective rises as harder negatives come in; where it levels off, mining has found what there is."
    )
    header = [
        "class",
        "fits",
        "positives",
        "negatives",
        "objective",
        "regulariser",
        "loss on positives",
        "on negatives",
    ]
    rows = [_last_fit(name, fits) for name, fits in by_class.items()]
    return section(
        "mining",
        "Hard negative mining",
        tag("p", text, class_="note"),
        tag("div", *charts, class_="columns"),
        table(header, rows),
    )


def _mining_chart(by_class: Mapping[str, Sequence[Row]], column: str, label: str, named: Collection[str]) -> Markup:
    series = [
        Series(name, numbers(rows, "images_seen"), numbers(rows, column), f"c{i}" if name in named else "plain")
        for i, (name, rows) in enumerate(by_class.items())
    ]
    labels = 110 if named else 0
    return tag(
        "div", line_chart(series, ChartAxis("images seen"), ChartAxis(label), width=500, height=260, label_width=labels)
    )


def _last_fit(name: str, fits: list[Row]) -> list[str]:
    last = fits[-1]
    parts = [f"{float(last[key]):.4g}" for key in ("objective", "regulariser", "positive_loss", "negative_loss")]
    return [name, str(len(fits)), last["positives"], last["negatives"], *parts]
