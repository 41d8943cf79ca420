"""Ren, He, Girshick and Sun 2015 (Faster R-CNN, arXiv:1506.01497v1): Tables 1, 2, 4 and 5, and Figure 2.

Roles: ``fast`` and ``faster`` are the project's detectors of these kinds (the paper's with ZF), ``vgg`` and
``fast_vgg`` others of kinds faster and fast on VGG-16.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean

from stages.graph import OWN_PROPOSALS, ROOT

from .grid import Cell, Done, Grid, Need, in_order, markdown, percent, seconds

_ONE = {"map": "mAP"}
_EDGE_BOXES = Need("proposals.file.path", "EdgeBoxes are another program's boxes (docs/proposal-file.md)")
# Selective search, "about 2k"; and EdgeBoxes' best 2k.
_SEARCH = ("proposals.method=selective_search", "proposals.max_proposals=2000")
_EDGES = ("proposals.method=file", "proposals.max_proposals=2000")


def _regions(role: str, train: str, test: str) -> list[str]:
    return [f"{role}/regions.train={train}", f"{role}/regions.test={test}"]


def _propose(role: str, number: int, **others: str) -> list[str]:
    """Settings of the RPN's proposals: the paper's, ``number`` of a test image, and those of an ablation."""
    values = {
        "before_nms": "6000",
        "train_before_nms": "null",
        "nms_iou": "0.7",
        "after_nms": str(number),
        "train_after_nms": "2000",
        "rank": "score",
        "regress": "true",
        **others,
    }
    return [f"{role}/propose.{name}={value}" for name, value in values.items()]


def _on_search(number: int, role: str = "faster", **ablated: str) -> Cell:
    """Trained on selective search, and tested on the proposals of step 1's RPN of a detector."""
    regions = _regions("fast", OWN_PROPOSALS, f"{{{role}}}/propose_1")
    return Cell([*_SEARCH, *regions, *_propose(role, number, **ablated)], "fast")


_GIVEN = _regions("fast", OWN_PROPOSALS, OWN_PROPOSALS)
_UNSHARED = Cell([*_regions("fast", "{faster}/propose_1", "{faster}/propose_1"), *_propose("faster", 300)], "fast")
# Without classification nothing ranks them for suppression: as many are drawn.
_NO_CLS = {"rank": "random", "nms_iou": "null"}
# In the paper's words: trained on, tested on, how many; and its mAP.
TABLE1: Mapping[str, tuple[str, str, str, float, Cell]] = {
    "ss": ("SS", "SS", "2k", 58.7, Cell([*_SEARCH, *_GIVEN], "fast")),
    "eb": ("EB", "EB", "2k", 58.6, Cell([*_EDGES, *_GIVEN], "fast", needs=[_EDGE_BOXES])),
    "shared": (
        "RPN+ZF, shared",
        "RPN+ZF, shared",
        "300",
        59.9,
        Cell(_propose("faster", 300), "faster"),
    ),
    "unshared": ("RPN+ZF, unshared", "RPN+ZF, unshared", "300", 58.7, _UNSHARED),
    "rpn_100": ("SS", "RPN+ZF", "100", 55.1, _on_search(100)),
    "rpn_300": ("SS", "RPN+ZF", "300", 56.8, _on_search(300)),
    "rpn_1k": ("SS", "RPN+ZF", "1k", 56.3, _on_search(1000)),
    "no_nms_6k": ("SS", "RPN+ZF (no NMS)", "6k", 55.2, _on_search(6000, nms_iou="null")),
    "no_cls_100": ("SS", "RPN+ZF (no cls)", "100", 44.6, _on_search(100, **_NO_CLS)),
    "no_cls_300": ("SS", "RPN+ZF (no cls)", "300", 51.4, _on_search(300, **_NO_CLS)),
    "no_cls_1k": ("SS", "RPN+ZF (no cls)", "1k", 55.8, _on_search(1000, **_NO_CLS)),
    "no_reg_300": ("SS", "RPN+ZF (no reg)", "300", 52.1, _on_search(300, regress="false")),
    "no_reg_1k": ("SS", "RPN+ZF (no reg)", "1k", 51.3, _on_search(1000, regress="false")),
    "vgg_300": ("SS", "RPN+VGG", "300", 59.2, _on_search(300, "vgg")),
}


def _table1(done: Sequence[Done], protocol: str) -> str:
    head = ["", "trained on", "tested on", "at most", "proposals per image", "mAP (%)", "the paper"]
    lines = []
    for one in in_order(done, list(TABLE1)):
        train, test, number, paper, _ = TABLE1[one.row]
        lines.append([one.row, train, test, number, _number(one), percent(one.mean_ap[protocol]), f"{paper}"])
    return markdown(head, lines)


def _number(one: Done) -> str:
    return "–" if one.proposals is None else f"{one.proposals:.0f}"


_MORE_DATA = Need("manifest.train", "07+12 is a list of your splits, such as [trainval07,trainval12]", anew=True)
_VGG_UNSHARED = [*_regions("fast_vgg", "{vgg}/propose_1", "{vgg}/propose_1"), *_propose("vgg", 300)]
_SETS = {"07": (frozenset({"07"}), []), "0712": (frozenset({"0712"}), [_MORE_DATA])}


def _with_data(settings: Sequence[str], detector: str, data: str) -> Cell:
    scopes, needs = _SETS[data]
    return Cell(settings, detector, scopes=scopes, needs=needs)


_VGG_GIVEN = [*_SEARCH, *_regions("fast_vgg", OWN_PROPOSALS, OWN_PROPOSALS)]
# Method, number of proposals, data, mAP and milliseconds of the paper.
TABLE2: Mapping[str, tuple[str, str, str, float, int, Cell]] = {
    "ss_07": ("SS", "2k", "07", 66.9, 1830, _with_data(_VGG_GIVEN, "fast_vgg", "07")),
    "ss_0712": ("SS", "2k", "07+12", 70.0, 1830, _with_data(_VGG_GIVEN, "fast_vgg", "0712")),
    "unshared_07": ("RPN+VGG, unshared", "300", "07", 68.5, 342, _with_data(_VGG_UNSHARED, "fast_vgg", "07")),
    "shared_07": ("RPN+VGG, shared", "300", "07", 69.9, 198, _with_data(_propose("vgg", 300), "vgg", "07")),
    "shared_0712": ("RPN+VGG, shared", "300", "07+12", 73.2, 198, _with_data(_propose("vgg", 300), "vgg", "0712")),
}


def _table2(done: Sequence[Done], protocol: str) -> str:
    head = ["", "method", "at most", "data", "mAP (%)", "time", "the paper"]
    lines = []
    for one in in_order(done, list(TABLE2)):
        method, number, data, paper, milliseconds, _ = TABLE2[one.row]
        time = timing(one)["total"]
        said = f"{paper}, {milliseconds / 1000:g} s"
        lines.append([one.row, method, number, data, percent(one.mean_ap[protocol]), seconds(time), said])
    return markdown(head, lines)


def timing(one: Done) -> dict[str, float | None]:
    """Split an image's time as Table 4 does: conv, proposal, region-wise, total; None where a part is not known.

    Convolutions that two nodes of one detector compute (kind joint, which stores no maps) count once.
    """
    conv: dict[str, list[float]] = {}
    parts: dict[str, float | None] = {"conv": 0.0, "proposal": 0.0, "region-wise": 0.0}
    for name, cost in one.costs.items():
        detector, _, node = name.partition("/")
        column = "conv" if node == "maps" else "proposal" if "propos" in node else "region-wise"
        others = [value for part, value in cost.seconds.items() if part != "conv"]
        if "conv" in cost.seconds:
            conv.setdefault(detector, []).append(cost.seconds["conv"])
        known = parts[column]
        parts[column] = None if known is None or not cost.seconds else known + sum(others)
    if parts["conv"] is not None:
        parts["conv"] += sum(fmean(values) for values in conv.values())
    known_parts = [value for value in parts.values() if value is not None]
    whole = len(known_parts) == len(parts) and bool(one.costs)
    return {**parts, "total": sum(known_parts) if whole else None}


def _table4(done: Sequence[Done], protocol: str) -> str:
    lines = []
    for one in sorted(done, key=lambda one: one.row):
        times = timing(one)
        total = times["total"]
        rate = "–" if not total else f"{1 / total:.3g} fps"
        lines.append([one.row, *(seconds(value) for value in times.values()), rate])
    return markdown(["detector", "conv", "proposal", "region-wise", "total", "rate"], lines)


# All anchors, at their places: no box is moved, ranked or suppressed; of training images, too.
_DENSE = [
    *_regions("fast", "{faster}/propose_1", "{faster}/propose_1"),
    *_propose(
        "faster",
        100_000,
        before_nms="null",
        nms_iou="null",
        train_after_nms="100000",
        rank="random",
        regress="false",
    ),
]


def _scales(value: str) -> list[str]:
    return [f"fast/roi_detect.scales_px={value}", "fast/roi_detect.scales_long_px=2000"]


TABLE5: Mapping[str, tuple[str, str, str, float, Cell]] = {
    "two_stage": ("RPN, unshared", "300", "1 scale", 58.7, Cell([*_UNSHARED.settings, *_scales("null")], "fast")),
    "dense_1": ("dense, all anchors", "20k", "1 scale", 53.8, Cell([*_DENSE, *_scales("null")], "fast")),
    "dense_5": (
        "dense, all anchors",
        "20k",
        "5 scales",
        53.9,
        Cell([*_DENSE, *_scales("[480,576,688,864,1200]")], "fast"),
    ),
}


def _table5(done: Sequence[Done], protocol: str) -> str:
    head = ["", "regions", "at most", "proposals per image", "Fast R-CNN", "mAP (%)", "the paper"]
    lines = []
    for one in in_order(done, list(TABLE5)):
        regions, number, scales, paper, _ = TABLE5[one.row]
        figures = [regions, number, _number(one), scales, percent(one.mean_ap[protocol]), f"{paper}"]
        lines.append([one.row, *figures])
    return markdown(head, lines)


FIGURE2 = {"ss": "SS", "eb": "EB", "rpn_zf": "RPN, ZF", "rpn_vgg": "RPN, VGG"}
NUMBERS = {"300": 300, "1k": 1000, "2k": 2000}


def _figure2_cell(row: str, column: str, rows: Sequence[str]) -> Cell:
    number = NUMBERS[column]
    if row in ("ss", "eb"):
        method = (_SEARCH if row == "ss" else _EDGES)[0]
        needs = [_EDGE_BOXES] if row == "eb" else []
        return Cell([method, f"proposals.max_proposals={number}"], ROOT, OWN_PROPOSALS, needs=needs)
    role = "faster" if row == "rpn_zf" else "vgg"
    return Cell(_propose(role, number), role, "propose_1")


def _figure2(done: Sequence[Done], protocol: str) -> str:
    ious = list(dict.fromkeys(iou for one in done for iou in one.recall))
    order = list(NUMBERS)
    lines = [
        [f"{FIGURE2[one.row]} {one.column}", _number(one), *(percent(one.recall.get(iou)) for iou in ious)]
        for one in sorted(in_order(done, list(FIGURE2)), key=lambda one: order.index(one.column))
    ]
    return markdown(["recall (%) at IoU", "proposals per image", *ious], lines)


_ROLES = {"fast": "fast", "faster": "faster", "vgg": "faster"}
FASTER = (
    Grid(
        "faster1",
        "Faster R-CNN's Table 1: Fast R-CNN with different proposals for training and test",
        {row: f"{train} / {test}, {number}" for row, (train, test, number, _, _) in TABLE1.items()},
        _ONE,
        _ROLES,
        lambda row, column, rows: TABLE1[row][-1],
        _table1,
    ),
    Grid(
        "faster2",
        "Faster R-CNN's Table 2: VGG-16, more data, and time",
        {row: f"{method}, {data}" for row, (method, _, data, _, _, _) in TABLE2.items()},
        _ONE,
        {"fast_vgg": "fast", "vgg": "faster"},
        lambda row, column, rows: TABLE2[row][-1],
        _table2,
    ),
    Grid(
        "faster4",
        "Faster R-CNN's Table 4: an image's time by part, of detectors of the project as they are",
        {},
        {"time": "time"},
        {},
        lambda row, column, rows: Cell([], row),
        _table4,
    ),
    Grid(
        "faster5",
        "Faster R-CNN's Table 5: one-stage detection on dense windows beside the two-stage way",
        {row: f"{regions}, {scales}" for row, (regions, _, scales, _, _) in TABLE5.items()},
        _ONE,
        _ROLES,
        lambda row, column, rows: TABLE5[row][-1],
        _table5,
    ),
    Grid(
        "figure2",
        "Faster R-CNN's Figure 2: recall of the best proposals by the IoU asked for",
        FIGURE2,
        {name: name for name in NUMBERS},
        _ROLES,
        _figure2_cell,
        _figure2,
    ),
)
