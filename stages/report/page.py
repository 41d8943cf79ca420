"""The report's page as a whole."""

from cache.text import counted
from stages.page.markup import Markup, document
from stages.page.provenance import digests_section, parameters_section

from .dense import localisation, windows_to_boxes
from .gallery import best_and_worst, random_images
from .inputs import PageData
from .provenance import environments, timings
from .scores import class_table, headline, mistakes, precision_recall, proposals, unscored
from .training import mining, network_curves

_CONTENTS = (
    ("scores", "Scores"),
    ("images", "Test images"),
    ("dense", "From windows to boxes"),
    ("classes", "Every class"),
    ("pr", "Precision and recall"),
    ("mistakes", "Kinds of mistakes"),
    ("examples", "Best and worst"),
    ("proposals", "Proposals"),
    ("localisation", "Localisation"),
    ("network", "Network"),
    ("mining", "Mining"),
    ("timings", "Time"),
    ("environments", "Environments"),
    ("parameters", "Parameters"),
    ("digests", "Made from"),
)


def page(data: PageData) -> str:
    """Return the HTML document; times are the only thing in it that a rerun may change."""
    detector, lead = _described(data)
    sections = _sections(data)
    there = [(anchor, text) for anchor, text in _CONTENTS if any(f'id="{anchor}"' in part for part in sections)]
    return document(f"{detector} on {data.dataset.name}", lead, there, sections)


def _described(data: PageData) -> tuple[str, str]:
    """Return what the detector is called, and the sentences that say what it is made of and tested on."""
    n_train = sum("test" not in image.splits for image in data.dataset.images)
    names = ", ".join(data.combined)
    tested = f"Tested on {len(data.tested)} images of {data.dataset.name}; {n_train} others are for training."
    of = f"An object detector for {counted(len(data.classes), 'class', 'classes')}"
    if data.dense is not None:
        return "OverFeat", (
            f"{of}: a network slides over the whole image at several scales, says the class of every window and where "
            f"in it the object lies, and the boxes are merged (Sermanet et al. 2013). {tested}"
        )
    if data.shared_trainings:
        return _shared_network(data, of, tested)
    if "features" not in data.parameters:
        return "Combined detectors", f"{of}: the scored windows of {names}, suppressed together. {tested}"
    spp = data.parameters["features"]["method"] == "spp"
    features = "features of each, pooled from the whole image's conv5" if spp else "features of each"
    classifier = "one linear SVM per class" if data.classifier == "svm" else "its own softmax classifier"
    regression = "box regression" if data.regressed else "no box regression"
    paper = "He et al. 2014" if spp else "Girshick et al. 2014"
    combined = f" Its windows were suppressed together with those of saved detectors: {names}." if names else ""
    lead = (
        f"{of}: region proposals, a network's {features}, {classifier}, and {regression} ({paper}). {tested}{combined}"
    )
    return ("SPP-net" if spp else "R-CNN"), lead


def _shared_network(data: PageData, of: str, tested: str) -> tuple[str, str]:
    """Do for the detectors with one network for all what :func:`_described` does."""
    if "fast" in data.shared_trainings:
        return "Fast R-CNN", (
            f"{of}: region proposals, pooled from a feature map of the whole image, whose network says the class and "
            f"moves the box (Girshick 2015). {tested}"
        )
    how = "trained at once" if "joint" in data.shared_trainings else "trained in four steps"
    return "Faster R-CNN", (
        f"{of}: a network proposes regions and another says their classes and moves their boxes; both share one "
        f"feature map, {how} (Ren et al. 2015). {tested}"
    )


def _sections(data: PageData) -> list[Markup]:
    about_scores = [class_table, precision_recall, mistakes, best_and_worst, proposals] if data.scored else []
    return [
        headline(data) if data.scored else unscored(data),
        random_images(data),
        windows_to_boxes(data),
        *(part(data) for part in about_scores),
        localisation(data),
        network_curves(data) if "network" in data.parameters else Markup(""),
        mining(data) if "svm" in data.parameters else Markup(""),
        timings(data),
        environments(data),
        parameters_section(data.parameters),
        digests_section(data.digests),
    ]
