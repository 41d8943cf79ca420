"""Sets of similar classes, and the sets whose false positives are shown together (``diagnose.similar_classes``)."""

from collections.abc import Sequence

from stages.scoring.settings import VOC_SIMILAR

# As detectionAnalysis's setDatasetParameters.m has them: among animals persons are similar, but not shown with them.
_VOC_SHOWN = {
    "animals": ("bird", "cat", "cow", "dog", "horse", "sheep"),
    "vehicles": ("aeroplane", "bicycle", "boat", "bus", "car", "motorbike", "train"),
    "furniture": ("chair", "diningtable", "sofa"),
}
# COCO's supercategories: the classes of one are similar.
_COCO = {
    "person": "person",
    "vehicle": "bicycle, car, motorcycle, airplane, bus, train, truck, boat",
    "outdoor": "traffic light, fire hydrant, stop sign, parking meter, bench",
    "animal": "bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe",
    "accessory": "backpack, umbrella, handbag, tie, suitcase",
    "sports": "frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, "
    "tennis racket",
    "kitchen": "bottle, wine glass, cup, fork, knife, spoon, bowl",
    "food": "banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake",
    "furniture": "chair, couch, potted plant, bed, dining table, toilet",
    "electronic": "tv, laptop, mouse, remote, keyboard, cell phone",
    "appliance": "microwave, oven, toaster, sink, refrigerator",
    "indoor": "book, clock, vase, scissors, teddy bear, hair drier, toothbrush",
}

Sets = Sequence[Sequence[str]]
_ALL = "all classes"


def similar_sets(named: str | Sets) -> Sets:
    """Return the sets whose classes are similar to each other: ``voc``, ``coco`` (supercategories), or those given."""
    if named == "voc":
        return VOC_SIMILAR
    if named == "coco":
        return [members.split(", ") for members in _COCO.values()]
    return [] if isinstance(named, str) else named


def named_sets(classes: Sequence[str]) -> str | Sets:
    """Choose the sets for a dataset: those, VOC's or COCO's, of whose names it has more (VOC's if equal), else none."""
    known = {
        "voc": {member for members in VOC_SIMILAR for member in members},
        "coco": {member for members in similar_sets("coco") for member in members},
    }
    shared = {name: len(members & set(classes)) for name, members in known.items()}
    best = max(shared, key=lambda name: shared[name])
    return best if shared[best] > 1 else []


def shown_sets(named: str | Sets, classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the sets of classes that are shown together, by name, with those members that the dataset has.

    A set of which it has fewer than two is no set, and left out. One that is called as a class is ``NAME (set)``.
    """
    if named == "voc":
        sets: dict[str, Sequence[str]] = dict(_VOC_SHOWN)
    elif named == "coco":
        sets = {name: members.split(", ") for name, members in _COCO.items()}
    else:
        sets = {", ".join(members): members for members in similar_sets(named)}
    present = {name: tuple(one for one in classes if one in members) for name, members in sets.items()}
    return {_apart(name, classes): members for name, members in present.items() if len(members) > 1}


def groups(named: str | Sets, classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return all classes together, and then :func:`shown_sets`; no name of a group is a class's."""
    return {_apart(_ALL, classes): tuple(classes)} | shown_sets(named, classes)


def _apart(name: str, classes: Sequence[str]) -> str:
    while name in classes:
        name += " (set)"
    return name
