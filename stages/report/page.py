"""The page as a whole."""

from pathlib import Path

from stages.page.markup import Markup, join, tag

from .gallery import best_and_worst, random_images
from .inputs import PageData
from .provenance import digests, environments, parameters, timings
from .scores import class_table, headline, mistakes, precision_recall, proposals
from .training import mining, network_curves

_CONTENTS = (
    ("scores", "Scores"),
    ("images", "Test images"),
    ("classes", "Classes"),
    ("pr", "Precision and recall"),
    ("mistakes", "Mistakes"),
    ("examples", "Best and worst"),
    ("proposals", "Proposals"),
    ("network", "Network"),
    ("mining", "Mining"),
    ("timings", "Time"),
    ("environments", "Environments"),
    ("parameters", "Parameters"),
    ("digests", "Made from"),
)


def page(data: PageData) -> str:
    """The HTML document: no script, no external resource; times are the only thing in it that a rerun may change."""
    spp = data.parameters["features"]["method"] == "spp"
    title = f"{'SPP-net' if spp else 'R-CNN'} on {data.dataset.name}"
    paper = "He et al. 2014" if spp else "Girshick et al. 2014"
    features = "features of each, pooled from the whole image's conv5" if spp else "features of each"
    n_classes, n_train = len(data.classes), len(data.dataset.images) - len(data.tested)
    classifier = "one linear SVM per class" if data.classifier == "svm" else "its own softmax classifier"
    regression = "box regression" if data.regressed else "no box regression"
    combined = ""
    if data.combined:
        names = ", ".join(data.combined)
        combined = f" Its windows were suppressed together with those of saved detectors: {names}."
    lead = (
        f"An object detector for {n_classes} class{'es' if n_classes != 1 else ''}: region proposals, a network's "
        f"{features}, {classifier}, and {regression} ({paper}). Tested on "
        f"{len(data.tested)} images of {data.dataset.name}, which has {n_train} others.{combined}"
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Markup(Path(__file__).with_name("page.css").read_text(encoding="utf-8"))),
    )
    links = [(anchor, text) for anchor, text in _CONTENTS if anchor != "environments" or data.environments]
    contents = tag("nav", *(tag("a", text, href=f"#{anchor}") for anchor, text in links))
    body = tag(
        "body",
        tag("header", tag("h1", title), tag("p", lead), contents),
        tag("main", _sections(data)),
    )
    return "<!DOCTYPE html>\n" + tag("html", head, body, lang="en") + "\n"


def _sections(data: PageData) -> Markup:
    return join(
        headline(data),
        random_images(data),
        class_table(data),
        precision_recall(data),
        mistakes(data),
        best_and_worst(data),
        proposals(data),
        network_curves(data),
        mining(data),
        timings(data),
        environments(data),
        parameters(data),
        digests(data),
    )
