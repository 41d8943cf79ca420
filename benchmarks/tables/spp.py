"""He, Zhang, Ren and Sun 2014 (SPP-net), Table 6: mAP by layer and method, and time per image."""

from collections.abc import Mapping, Sequence

from stages.graph import ROOT

from .grid import Cell, Done, Grid, Need, markdown, percent, seconds

# Fine-tuned or not, the SVM's layer, box regression.
ROWS = {
    "pool5": (False, "pool5", False),
    "fc6": (False, "fc6", False),
    "ftfc6": (True, "fc6", False),
    "ftfc7": (True, "fc7", False),
    "ftfc7bb": (True, "fc7", True),
}
# The paper's for SPP: near duplicates of negatives dropped, and the authors' ridge; R-CNN's stand in params.yaml.
_SPP = ("features.method=spp", "svm.duplicate_iou=0.7", "bbox.ridge_lambda=4000", "bbox.min_iou=0.5")
COLUMNS = {
    "spp1": ("features.spp.scales_px=[688]", *_SPP),
    "spp5": ("features.spp.scales_px=[480,576,688,864,1200]", *_SPP),
    "rcnn": ("features.method=warp", "svm.duplicate_iou=null"),
}
TITLES = {"spp1": "SPP (1-sc)", "spp5": "SPP (5-sc)", "rcnn": "R-CNN"}


def cell(row: str, column: str, rows: Sequence[str]) -> Cell:
    """Say what one cell sets. All store the layers of all ``rows``, so that a column's features are shared."""
    tuned, layer, regression = ROWS[row]
    layers = sorted({"pool5", *(ROWS[name][1] for name in rows)})
    settings = [*COLUMNS[column], f"features.layers=[{','.join(layers)}]", f"svm.layer={layer}"]
    settings += [f"bbox.enabled={str(regression).lower()}", "bbox.layer=pool5"]
    settings += [] if tuned else ["finetune.iterations=0"]
    needs = [Need("finetune.iterations", "the rows that begin with ft are fine-tuned")] if tuned else []
    scopes = ({"ft"} if tuned else set()) | ({"spp"} if column.startswith("spp") else set())
    return Cell(settings, scopes=frozenset(scopes), needs=needs)


def table(done: Sequence[Done], protocol: str) -> str:
    """Print the paper's table: mAP in per cent, seconds per image, and how many times faster than R-CNN."""
    by_place = {(one.row, one.column): one for one in done}
    columns = [column for column in COLUMNS if any(one.column == column for one in done)]
    lines = []
    for row in [row for row in ROWS if any(one.row == row for one in done)]:
        found = [by_place.get((row, column)) for column in columns]
        lines.append([row, *(percent(one.mean_ap[protocol] if one else None) for one in found)])
    costs = {column: _cost([one for one in done if one.column == column]) for column in columns}
    for part in ("conv", "fc", "rest"):
        lines.append([f"{part} time", *(seconds(cost.get(part, 0.0) if cost else None) for cost in costs.values())])
    totals = {column: sum(cost.values()) if cost else None for column, cost in costs.items()}
    lines.append(["total time", *(seconds(total) for total in totals.values())])
    lines.append(["times faster than R-CNN", *(_faster(totals, column) for column in columns)])
    return markdown(["", *(TITLES[column] for column in columns)], lines)


def _cost(done: Sequence[Done]) -> dict[str, float]:
    """Mean over a column's distinct features, with fine-tuning and without, of those whose time is known."""
    features = [cost for one in done if (cost := one.costs.get(f"{ROOT}/features"))]
    known = list({cost.of: cost.seconds for cost in features if cost.seconds}.values())
    parts = {part for of_image in known for part in of_image}
    return {part: sum(of_image.get(part, 0.0) for of_image in known) / len(known) for part in parts}


def _faster(totals: Mapping[str, float | None], column: str) -> str:
    own, rcnn = totals[column], totals.get("rcnn")
    return "–" if column == "rcnn" or not own or not rcnn else f"{rcnn / own:.0f}x"


TABLE6 = Grid(
    "table6",
    "SPP-net's Table 6: layers, fine-tuning and regression by SPP-net at one and five scales and R-CNN",
    dict.fromkeys(ROWS, ""),
    TITLES,
    {},
    cell,
    table,
)
