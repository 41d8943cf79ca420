"""The curve of a training run: mean losses between two looks at the model, what the look found, and its CSV file."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cache import atomic_write


@dataclass(frozen=True)
class Losses:
    """One iteration's loss: the weighted total, and each term before weighting where there is more than one."""

    total: float
    terms: Mapping[str, float] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """The losses as the progress line shows them: ``loss 0.512 (rpn_cls 0.401, rpn_box 0.111)``."""
        terms = ", ".join(f"{name} {value:.3f}" for name, value in self.terms.items())
        return f"loss {self.total:.3f}" + (f" ({terms})" if terms else "")


@dataclass(frozen=True)
class Progress:
    """The state of a run: iterations done, the curve's rows so far, and losses summed since the last row."""

    iteration: int = 0
    rows: tuple[Mapping[str, float], ...] = ()
    loss_sum: float = 0.0
    loss_count: int = 0
    term_sums: Mapping[str, float] = field(default_factory=dict)

    def stepped(self, losses: Losses) -> "Progress":
        """Count one more iteration. Raises ValueError where its terms are not those of the iterations before."""
        if self.iteration and set(losses.terms) != set(self.term_sums):
            raise ValueError(f"the loss had the terms {sorted(self.term_sums)}, now it has {sorted(losses.terms)}")
        sums = {name: self.term_sums.get(name, 0.0) + value for name, value in losses.terms.items()}
        total, count = self.loss_sum + losses.total, self.loss_count + 1
        return replace(self, iteration=self.iteration + 1, loss_sum=total, loss_count=count, term_sums=sums)

    def with_row(self, found: Mapping[str, float]) -> "Progress":
        """Add a row to the curve: the iteration, the mean losses since the row before, and what an evaluation found.

        Its columns are ``iteration``, ``train_loss``, ``train_TERM`` for each term where there are several, and those
        of ``found``.
        """
        means = {f"train_{name}": value / self.loss_count for name, value in self.term_sums.items()}
        row = {"iteration": self.iteration, "train_loss": self.loss_sum / self.loss_count, **means, **found}
        return Progress(self.iteration, (*self.rows, row), term_sums=dict.fromkeys(self.term_sums, 0.0))

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON, for a checkpoint."""
        state: dict[str, Any] = {"iteration": self.iteration, "rows": [dict(row) for row in self.rows]}
        state |= {"loss_sum": self.loss_sum, "loss_count": self.loss_count}
        return state | ({"term_sums": dict(self.term_sums)} if self.term_sums else {})

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> "Progress":
        """Invert :meth:`as_json`; KeyError, TypeError or ValueError for anything else."""
        counts = (state["iteration"], state["loss_count"])
        terms = state.get("term_sums", {})
        if any(type(count) is not int or count < 0 for count in counts):
            raise ValueError("progress has no count of iterations")
        if not isinstance(terms, dict) or not all(
            isinstance(v, float | int) for v in (state["loss_sum"], *terms.values())
        ):
            raise ValueError("progress has no losses")
        rows = tuple(state["rows"])
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError("progress has no rows of a curve")
        return cls(counts[0], rows, state["loss_sum"], counts[1], terms)


def write_curve(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, float]]) -> None:
    """Write the curve as CSV, one row per evaluation; a value that does not exist is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: v if isinstance(v, int) else f"{v:.6g}" for k, v in row.items() if not math.isnan(v)})
    atomic_write(path, text.getvalue().encode())
