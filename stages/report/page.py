"""The report's page as a whole."""

from stages.page.markup import Markup, document
from stages.page.provenance import digests_section, parameters_section

from .gallery import best_and_worst, random_images
from .inputs import PageData
from .provenance import timings
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
    ("parameters", "Parameters"),
    ("digests", "Made from"),
)


def page(data: PageData) -> str:
    """Return the HTML document; times are the only thing in it that a rerun may change."""
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
    return document(title, lead, _CONTENTS, _sections(data))


def _sections(data: PageData) -> list[Markup]:
    return [
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
        parameters_section(data.parameters),
        digests_section(data.digests),
    ]
