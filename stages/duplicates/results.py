"""What a search for duplicates found, as people and programs take it: JSON, a list to edit, a contact sheet."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from PIL import Image

from cache.text import format_table
from manifests import ImageRecord, ImageSource
from manifests.describe import drawn, sheet
from manifests.drop_list import drop_list_text
from manifests.readers.options import TRAIN_NAMES

from .pairs import FoundPairs, Pair, Side

JSON_FILE, LIST_FILE, SHEET_FILE = "duplicates.json", "drop.txt", "duplicates.png"


def document(found: FoundPairs, sides: tuple[Side, Side], method: str, below: float, most: int) -> dict[str, Any]:
    """Return a JSON document of all marked pairs, and more, the nearest first, until there are ``most``."""
    datasets = list(dict.fromkeys(side.name for side in sides))
    median = {} if found.median is None else {"median_nearest_distance": found.median, "below": below}
    shown = shown_pairs(found, most)
    return {
        "method": method,
        "datasets": datasets,
        "images": [len(side.images) for side in sides[: len(datasets)]],
        **median,
        "marked": sum(pair.marked for pair in found.pairs),
        "not_listed": len(found.pairs) - len(shown),
        "pairs": [
            {
                "a": _named(sides[0], pair.a),
                "b": _named(sides[1], pair.b),
                "distance": pair.distance,
                "marked": pair.marked,
            }
            for pair in shown
        ],
    }


def shown_pairs(found: FoundPairs, most: int) -> Sequence[Pair]:
    """Choose the pairs that are shown: all that are marked, and more, the nearest first, until there are ``most``."""
    marked = sum(pair.marked for pair in found.pairs)  # they come first
    return found.pairs[: max(marked, most)]


def _named(side: Side, place: int) -> dict[str, Any]:
    image = side.images[place]
    return {"dataset": side.name, "image": image.file_name, "id": image.id, "split": image.split}


def table(found: FoundPairs, sides: tuple[Side, Side], most: int) -> str:
    """Lay out the first pairs as a table for people, ``most`` of them."""
    rows = []
    for pair in found.pairs[:most]:
        ends = (_told(side.images[place]) for side, place in zip(sides, (pair.a, pair.b), strict=True))
        rows.append((f"{pair.distance:.3f}", "yes" if pair.marked else "", *ends))
    names = [f"{side.name} (split)" for side in sides]
    return format_table(("distance", "marked", *names), rows, right=(0,))


def _told(image: ImageRecord) -> str:
    return f"{image.file_name} ({image.split})"


def drop_list(found: FoundPairs, sides: tuple[Side, Side], trained: Collection[str] = ()) -> str:
    """Write the images that one may leave out, for ``manifest.drop_duplicates``; of each the marked pairs it is in.

    Of pairs of two datasets the first one's image. Within one dataset those outside its training splits whose twin is
    trained on or in another split, so that nothing is tested on that was trained on; other pairs within a split are
    left to the reader. ``trained``: the training splits; none: those called train, trainval or training.
    """
    two = sides[0].name != sides[1].name
    listed: dict[str, list[str]] = {}
    for pair in found.pairs:
        ends = sides[0].images[pair.a], sides[1].images[pair.b]
        if not pair.marked:
            continue
        for image, other in (ends,) if two else (ends, ends[::-1]):
            if two or _only_tested(image, other, trained):
                listed.setdefault(image.file_name, []).append(f"{pair.distance:.3f} from {_told(other)}")
    heading = [
        f"Images of dataset {sides[0].name} that are near-duplicates, for manifest.drop_duplicates (docs/analysis.md).",
        "Look at duplicates.png, and take out the lines of those that are none.",
    ]
    return drop_list_text(heading, listed)


def _only_tested(image: ImageRecord, other: ImageRecord, trained: Collection[str]) -> bool:
    """Whether an image is outside the training splits, and its twin in one of them or elsewhere than it."""
    if _is_trained_on(image, trained):
        return False
    return _is_trained_on(other, trained) or other.split != image.split


def _is_trained_on(image: ImageRecord, trained: Collection[str]) -> bool:
    """Whether any of an image's splits is a training split: one that is in val and in trainval is trained on."""
    return any(split in trained if trained else split.lower() in TRAIN_NAMES for split in image.splits)


def contact_sheet(
    pairs: Sequence[Pair],
    sides: tuple[Side, Side],
    sources: tuple[ImageSource, ImageSource],
    classes: tuple[Sequence[str], Sequence[str]],
    told: Callable[[int, int], None],
) -> bytes:
    """Draw pairs, one a row, with thin outlines of their objects -> a PNG file; without any, a picture that says so.

    ``told`` hears how many of how many are drawn.
    """

    def cells() -> Iterator[tuple[Any, str]]:
        for number, pair in enumerate(pairs, 1):
            for side, source, names, place in zip(sides, sources, classes, (pair.a, pair.b), strict=True):
                image = side.images[place]
                mark = "  marked" if pair.marked else ""
                yield (
                    drawn(image, source, names, plain=True),
                    f"{pair.distance:.3f}{mark}  {image.file_name}  [{image.split}]",
                )
            told(number, len(pairs))

    if not pairs:  # no empty picture, nor that of a former search
        names = " and ".join(dict.fromkeys(side.name for side in sides))
        return sheet([(Image.new("RGB", (1, 1), "white"), f"No pair to show of {names}.")], 2)
    return sheet(cells(), 2)
