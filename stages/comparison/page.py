"""The comparison's page as a whole."""

from pathlib import Path

from cache.text import counted
from stages.page.markup import document

from .cost import cost, digests, parameters
from .gallery import disputed_images
from .inputs import ComparisonData
from .measures import Comparison
from .regions import regions
from .scores import classes, mistakes, precision_recall, scores, unscored

_CONTENTS = {
    "scores": "Scores",
    "images": "Where they disagree most",
    "classes": "Every class",
    "pr": "Precision and recall",
    "mistakes": "Kinds of mistakes",
    "regions": "Regions",
    "cost": "Time, memory, disk",
    "parameters": "Parameters",
    "digests": "Made from",
}


def page(data: ComparisonData, comparison: Comparison) -> str:
    """Return the HTML document; times are the only thing in it that a rerun may change."""
    names = [one.name for one in data.detectors]
    n_train = sum("test" not in image.splits for image in data.dataset.images)
    if len(names) > 1:
        title = f"{len(names)} detectors on {data.dataset.name}"
        lead = f"{', '.join(names[:-1])} and {names[-1]}, tested on the same {len(data.tested)} images of "
        end = f" Differences are to the first, {names[0]}."
    else:
        title = f"{names[0]} on {data.dataset.name}"
        lead = f"One detector, {names[0]}, tested on {len(data.tested)} images of "
        end = " Add another detector to have them side by side."
    n_classes = counted(len(data.classes), "class", "classes")
    lead += f"{data.dataset.name}, which has {n_classes}; {n_train} others are for training.{end}"
    if comparison.scored:
        sections = [
            scores(data, comparison),
            disputed_images(data, comparison),
            classes(data, comparison),
            precision_recall(data, comparison),
            mistakes(comparison),
            regions(comparison),
        ]
    else:
        sections = [unscored(data), disputed_images(data, comparison)]
    sections += [cost(comparison), parameters(data), digests(data)]
    headed = _CONTENTS if len(names) > 1 else {**_CONTENTS, "images": "Test images"}
    contents = [(anchor, text) for anchor, text in headed.items() if any(f'id="{anchor}"' in part for part in sections)]
    style = Path(__file__).with_name("comparison.css").read_text(encoding="utf-8")
    return document(title, lead, contents, sections, style=style)
