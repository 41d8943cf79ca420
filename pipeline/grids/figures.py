"""The figures of a cell that a table shows: a number of each run, of which mean and deviation are printed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median, stdev

from .measured import Done

Number = Callable[[Done], float | None]
_UNKNOWN = "–"


@dataclass(frozen=True)
class Figure:
    """A column of numbers: its heading, how one is read, and how it is worded; a difference with its sign."""

    heading: str
    of: Number
    word: Callable[[float], str]
    is_difference: bool = False

    def text(self, runs: Sequence[Done]) -> str:
        """Word the mean over runs with several seeds, and their standard deviation (of a sample: by n - 1)."""
        found = [value for one in runs if (value := self.of(one)) is not None]
        if not found:
            return _UNKNOWN
        return self._mean(fmean(found)) + (f" ± {self.word(stdev(found))}" if len(found) > 1 else "")

    def numbers(self, runs: Sequence[Done]) -> tuple[float | None, float | None]:
        """Return mean and deviation, None where there is none."""
        found = [value for one in runs if (value := self.of(one)) is not None]
        return (fmean(found) if found else None), (stdev(found) if len(found) > 1 else None)

    def less(self, base: Sequence[Done]) -> "Figure":
        """Return how much it is above that of the run in ``base`` with the same seed; None where there is none."""
        of = {one.seed: self.of(one) for one in base}

        def difference(one: Done) -> float | None:
            own, other = self.of(one), of.get(one.seed)
            return None if own is None or other is None else own - other

        return replace(self, of=difference, is_difference=True)

    def _mean(self, value: float) -> str:
        if not self.is_difference:
            return self.word(value)
        text = self.word(abs(value))
        rounded_to_zero = not any(sign in "123456789" for sign in text)
        return text if rounded_to_zero else ("-" if value < 0 else "+") + text


def percent(value: float) -> str:
    """Word a part of one in per cent, with one digit."""
    return f"{100 * value:.1f}"


def seconds(value: float | None) -> str:
    """Word a time."""
    return _UNKNOWN if value is None else f"{value:.3g} s"


def figures_of(names: Sequence[str], protocol: str, done: Sequence[Done]) -> list[Figure]:
    """Return the columns of the figures named, but for ``paper``; of ``AP``, ``IoU``, ``recall`` one for each there is.

    ``protocol``: whose AP is meant.
    """
    found: list[Figure] = []
    for name in names:
        if name == "mAP":
            found.append(Figure("mAP (%)", lambda one: one.mean_ap.get(protocol), percent))
        elif name == "median":
            found.append(Figure("median AP (%)", lambda one: _median(one, protocol), percent))
        elif name == "AP":
            classes = dict.fromkeys(label for one in done for label in one.ap.get(protocol, {}))
            found += [Figure(label, _ap(label, protocol), percent) for label in classes]
        elif name == "mIoU":
            found.append(Figure("mean IoU (%)", lambda one: one.mean_iou, percent))
        elif name == "IoU":
            labels = dict.fromkeys(label for one in done for label in one.iou)
            found += [Figure(label, _iou(label), percent) for label in labels]
        elif name == "proposals":
            found.append(Figure("proposals per image", lambda one: one.proposals, lambda value: f"{value:.0f}"))
        elif name == "recall":
            ious = dict.fromkeys(iou for one in done for iou in one.recall)
            found += [Figure(f"recall (%) at IoU {iou}", _recall(iou), percent) for iou in ious]
        elif name == "parts":
            found += [Figure(part, _part(part), seconds) for part in ("conv", "proposal", "region-wise")]
        elif name == "time":
            found.append(Figure("time", lambda one: timing(one)["total"], seconds))
        elif name == "rate":
            found.append(Figure("rate", _rate, lambda value: f"{value:.3g} fps"))
    return found


def _median(one: Done, protocol: str) -> float | None:
    known = [ap for ap in one.ap.get(protocol, {}).values() if ap is not None]
    return median(known) if known else None


def _ap(label: str, protocol: str) -> Number:
    return lambda one: one.ap.get(protocol, {}).get(label)


def _iou(label: str) -> Number:
    return lambda one: one.iou.get(label)


def _recall(iou: str) -> Number:
    return lambda one: one.recall.get(iou)


def _part(part: str) -> Number:
    return lambda one: timing(one)[part]


def _rate(one: Done) -> float | None:
    total = timing(one)["total"]
    return 1 / total if total else None


def timing(one: Done) -> Mapping[str, float | None]:
    """Split an image's time as Faster R-CNN's Table 4 does: conv, proposal, region-wise, and their total.

    None where a part is not known. Convolutions that two nodes of one detector compute (kind joint, which stores no
    maps) count once.
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
