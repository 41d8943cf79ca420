"""The page of segmentation, ``reports/segmentation/index.html``, as a whole."""

from typing import Any

from cache.text import counted
from manifests.masks import voc_palette
from stages.page.markup import Markup, document, join, percent, section, table, tag, tile
from stages.page.pictures import Mark, picture
from stages.page.provenance import digests_section, parameters_section

from .drawing import painted
from .result import ImageResult, SegmentationFigures, SegmentationPage

# The paper's Table 5 (VOC 2011 val, mean IoU in percent), by layer and features; O2P 46.4.
_TABLE_5 = {
    "fc6": {"full": 43.0, "fg": 43.7, "full_fg": 47.9},
    "fc7": {"full": 42.5, "fg": 42.1, "full_fg": 45.7},
}
_O2P = 46.4
_MAX_CLASSES = 40  # of the confusion matrix: more would not be read
_STYLE = """
.maps{display:grid;grid-template-columns:repeat(3,minmax(0,max-content));gap:.6rem;margin-bottom:1rem}
.maps figure{margin:0}
.swatch{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 .9em;border-radius:2px}
td.heat{text-align:right}
"""


def page(data: SegmentationPage) -> str:
    """Return the HTML document; nothing in it depends on when it was made."""
    figures = data.figures
    n_train = len(figures.dataset.split("train"))
    lead = (
        f"Semantic segmentation of {counted(len(figures.dataset.classes), 'class', 'classes')}: the detector's regions "
        f"are scored once more, by regressors of their overlap with each class on {figures.features.features} features "
        f"of {figures.features.layer}, and the best are pasted (Girshick et al. 2014, section 5). Tested on "
        f"{len(figures.tested)} images of {figures.dataset.name}; {n_train} others are for training."
    )
    sections = [
        _headline(figures),
        _images(data),
        _table_5(figures),
        _classes(figures),
        _confusion(figures),
        parameters_section(data.parameters),
        digests_section(data.digests),
    ]
    contents = (
        ("scores", "Scores"), ("images", "Images"), ("table5", "Table 5"), ("classes", "Every class"),
        ("confusion", "Confusion"), ("parameters", "Parameters"), ("digests", "Made from"),
    )  # fmt: skip
    return document(f"Segmentation of {figures.dataset.name}", lead, contents, sections, style=_STYLE)


def _headline(figures: SegmentationFigures) -> Markup:
    own = figures.own
    tiles = [
        tile("Mean IoU", percent(own.mean_iou), "over the classes that the masks or the maps have, and background"),
        tile("All background", percent(figures.background.mean_iou), "plain reference: no region is pasted"),
        tile("Filled boxes", percent(figures.boxes.mean_iou), "plain reference: the detector's boxes, filled"),
        tile("Oracle", percent(figures.oracle_used.mean), _of_oracle(figures)),
        tile("Pixel accuracy", percent(own.pixel_accuracy), "pixels whose class is right"),
        tile("Mean class accuracy", percent(own.mean_class_accuracy), "of the classes in the masks"),
    ]
    return section(
        "scores", "Scores", tag("div", *tiles, class_="tiles"), tag("p", _of_threshold(figures), class_="note")
    )


def _of_oracle(figures: SegmentationFigures) -> str:
    return (
        f"mean best mask IoU of an object's class among the {figures.regions:.0f} regions an image that take part; "
        f"among all proposals {percent(figures.oracle_all.mean)}"
    )


def _of_threshold(figures: SegmentationFigures) -> str:
    found, kind = figures.threshold, figures.paste.threshold
    text = f"Regions are pasted that score above {found['threshold']:.2f}, the k-th best of an image above "
    text += f"{figures.paste.per_rank:g} (k − 1) more. "
    if kind == "test":
        text += (
            f"The threshold was found on the test images themselves, so that they have at most {found['goal']:g} "
            "regions each, as the authors of O2P did: on new images the figures would be lower. "
        )
    elif kind == "train":
        text += (
            f"It was found on {found['threshold_images']} training images that no regressor saw: they have "
            f"{found['goal']:.2f} objects each, and {found['found']:.2f} regions. "
        )
    if figures.empty:
        text += f"{counted(figures.empty, 'image')} of {len(figures.tested)} have no such region: all background. "
    if figures.all_void:
        text += f"{counted(figures.all_void, 'image')} void all over, which count nowhere. "
    return text + "The boxes' scores are those that balance precision and recall best on the test images."


def _images(data: SegmentationPage) -> Markup:
    rows = [
        join(tag("h3", title), *(_row(data, one) for one in images)) for title, images in data.images.items() if images
    ]
    note = tag("p", "Truth, the map, and the regions that it was pasted of, each with class and score. White is void.",
               class_="note")  # fmt: skip
    return section("images", "Images", note, _legend(data.figures), *rows)


def _legend(figures: SegmentationFigures) -> Markup:
    parts = [
        join(tag("span", "", class_="swatch", style=f"background:rgb{voc_palette()[i + 1]}"), name)
        for i, name in enumerate(figures.dataset.classes[:_MAX_CLASSES])
    ]
    return tag("p", *parts, class_="note")


def _row(data: SegmentationPage, one: ImageResult) -> Markup:
    pixels, classes = data.pixels(one.record), data.figures.dataset.classes
    marks = [Mark(region.box, "found", f"{classes[region.label]} {region.score:.2f}") for region in one.regions]
    iou = "no class but background" if one.iou is None else f"mean IoU of its classes {percent(one.iou)}"
    options: Any = {"longest_px": data.settings.picture_px, "quality": data.settings.jpeg_quality}
    figures = [
        picture(painted(pixels, one.truth), [], f"{one.record.name}: truth", **options),
        picture(painted(pixels, one.result), [], f"result: {iou}", **options),
        picture(pixels, marks, f"{counted(len(marks), 'region')}", **options),
    ]
    return tag("div", *figures, class_="maps")


def _table_5(figures: SegmentationFigures) -> Markup:
    """The paper's grid with this run's figure in its place."""
    header = ["", "full", "fg", "full+fg"]
    rows = [[f"paper, VOC 2011 val: {layer}", *(f"{value:.1f}" for value in row.values())]
            for layer, row in _TABLE_5.items()]  # fmt: skip
    own = [percent(figures.own.mean_iou) if name == figures.features.features else "–" for name in _TABLE_5["fc6"]]
    rows.append([f"this run: {figures.features.layer}", *own])
    text = (
        f"Mean IoU in percent; O2P has {_O2P} there. Another dataset's figures are not to be compared, the order is: "
        "region_features.features and layer choose the cell."
    )
    return section("table5", "Table 5", tag("p", text, class_="note"), table(header, rows))


def _classes(figures: SegmentationFigures) -> Markup:
    """Show each class's IoU beside both plain references and the oracle, as in the paper's Tables 6 and 7."""
    oracle = (None, *figures.oracle_used.each)
    rows = [
        [name, *(percent(value) for value in values)]
        for name, *values in zip(
            figures.names, figures.own.iou, figures.boxes.iou, figures.background.iou, oracle, strict=True
        )
    ]
    mean = [figures.own.mean_iou, figures.boxes.mean_iou, figures.background.mean_iou, figures.oracle_used.mean]
    rows.append(["mean", *(percent(value) for value in mean)])
    absent = [name for name, value in zip(figures.names, figures.own.iou, strict=True) if value is None]
    text = "IoU in percent (the paper's Tables 6 and 7). "
    if absent:
        text += f"Neither masks nor maps have {', '.join(absent)}, left out of the mean."
    header = ["class", "IoU", "filled boxes", "all background", "oracle"]
    return section("classes", "Every class", tag("p", text, class_="note"), table(header, rows))


def _confusion(figures: SegmentationFigures) -> Markup:
    """Show where the pixels of each class went, in percent of the class."""
    if len(figures.names) > _MAX_CLASSES:
        text = f"{len(figures.names)} classes are too many for a table; reports/segmentation.json has the counts."
        return section("confusion", "Confusion", tag("p", text, class_="note"))
    rows = []
    for name, counts in zip(figures.names, figures.counts.tolist(), strict=True):
        total = sum(counts)
        cells = [_cell(count / total if total else 0.0) for count in counts]
        rows.append(tag("tr", tag("td", name), *cells))
    head = tag("thead", tag("tr", tag("th", "truth \\ result"), *(tag("th", name) for name in figures.names)))
    text = "Percent of a class's pixels (rows) that each class has on the maps (columns); void pixels left out."
    body = tag("div", tag("table", head, tag("tbody", *rows)), class_="scroll")
    return section("confusion", "Confusion", tag("p", text, class_="note"), body)


def _cell(share: float) -> Markup:
    """Make a cell of the matrix, the darker the larger its share is; nothing stands in one of none."""
    if not share:
        return tag("td", "", class_="heat")
    return tag("td", f"{100 * share:.0f}", class_="heat", style=f"background:rgba(42,120,214,{0.75 * share:.2f})")
