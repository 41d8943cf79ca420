"""From precision-recall curves to the scores at which detections are worth showing."""

from collections.abc import Iterable, Mapping

CURVE_COLUMNS = ("regression", "class", "score", "recall", "precision")  # of reports/plots/pr.csv


def best_f1_scores(rows: Iterable[Mapping[str, str]], regression: str = "bbox") -> dict[str, float]:
    """Per class the score that balances precision and recall best (largest F1).

    ``rows`` are those of ``reports/plots/pr.csv``; ``regression``: ``bbox`` or ``no_bbox``. A class that was never
    found has none.
    """
    best: dict[str, tuple[float, float]] = {}
    for row in rows:
        precision, recall = float(row["precision"]), float(row["recall"])
        if row["regression"] != regression or precision + recall == 0:
            continue
        f1 = 2 * precision * recall / (precision + recall)
        if f1 > best.get(row["class"], (0.0, 0.0))[0]:
            best[row["class"]] = (f1, float(row["score"]))
    return {name: score for name, (_, score) in best.items()}
