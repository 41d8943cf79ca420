"""What a run of ``classify`` looked at, and what its objects say of each picture."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cache import Artifact, Store
from cache.errors import StageError

from .saved_runs import SAVE, VIEWS
from .scoring import DENSE, METHODS, Scores, dense_scores, mean_scores

STAGE = "classify"  # whose objects they are


@dataclass(frozen=True)
class Looked:
    """What a run looks at: which pictures, and how.

    Attributes:
        dataset: its name.
        classes: the dataset's.
        pictures: SHA-256 of each test picture.
        short_side_px: shorter side of the pictures that crops and full views are taken of.
        views: numbers of those views, ascending (``stages/features/views.py``); none: no such view.
        scales_px: of dense views; none: no dense view.
    """

    dataset: str
    classes: tuple[str, ...]
    pictures: tuple[str, ...]
    short_side_px: int
    views: tuple[int, ...]
    scales_px: tuple[int, ...]

    @property
    def methods(self) -> set[str]:
        """The ways to test that its views allow."""
        own = {name for name, views in METHODS.items() if set(views) <= set(self.views)}
        return own | (set(DENSE) if self.scales_px else set())


@dataclass(frozen=True)
class ClassifyRun:
    """One network's results: the keys of its objects, in the order of ``looked.pictures``.

    ``outputs`` are the network's outputs for the dataset's classes; ``of_views`` is empty without such views.
    """

    looked: Looked
    outputs: tuple[int, ...]
    of_views: tuple[str, ...]
    of_scales: Mapping[int, tuple[str, ...]]

    @cached_property
    def keys(self) -> frozenset[str]:
        """The keys of all its objects; two runs share one where their network is the same."""
        return frozenset((*self.of_views, *(key for own in self.of_scales.values() for key in own)))

    @cached_property
    def _places(self) -> dict[str, int]:
        return {picture: place for place, picture in enumerate(self.looked.pictures)}

    def scores(
        self, store: Store, picture: str, methods: Collection[str], scales_px: Sequence[int]
    ) -> dict[str, Scores]:
        """Return a picture's class probabilities [C] by method; each of its objects is read once.

        Args:
            store: Has the objects.
            picture: Its SHA-256.
            methods: Among ``looked.methods``.
            scales_px: That dense methods average over, among ``looked.scales_px``.
        """
        place, found = self._places[picture], dict[str, Scores]()
        if of_views := [name for name in methods if name in METHODS]:
            logits = store.get(STAGE, self.of_views[place], ["fc8"]).arrays["fc8"]
            found |= {name: mean_scores(logits, self.looked.views, METHODS[name]) for name in of_views}
        if dense := [name for name in methods if name in DENSE]:
            keys = [self.of_scales[scale][place] for scale in scales_px]
            maxima = [store.get(STAGE, key, ["coarse", "fine"]).arrays for key in keys]
            found |= {name: dense_scores(maxima, DENSE[name]) for name in dense}
        return {name: scores[list(self.outputs)] for name, scores in found.items()}


def about(looked: Looked, outputs: Sequence[int]) -> dict[str, Any]:
    """Return what the summary of the list of views says beside what its objects are made of, for :func:`run_of`."""
    return {"classes": list(looked.classes), "outputs": list(outputs), "images": list(looked.pictures)}


def run_of(lists: Mapping[str, Artifact], where: object) -> ClassifyRun:
    """Make the run of its lists; StageError naming ``where`` they come from if they do not belong together."""
    try:
        found = lists[VIEWS].summary
        looked = Looked(
            dataset=_text(found["dataset"]),
            classes=tuple(map(_text, found["classes"])),
            pictures=tuple(map(_text, found["images"])),
            short_side_px=int(found["short_side_px"]),
            views=tuple(map(int, found["views"])) if lists[VIEWS].entries else (),
            scales_px=tuple(int(name) for name in lists if name != VIEWS),
        )
        made = ClassifyRun(
            looked,
            outputs=tuple(map(int, found["outputs"])),
            of_views=tuple(lists[VIEWS].keys.values()),
            of_scales={int(name): tuple(one.keys.values()) for name, one in lists.items() if name != VIEWS},
        )
        networks = {(one.stage, one.summary["weights_digest"]) for one in lists.values()}
    except (KeyError, ValueError, TypeError, OverflowError):
        raise StageError(f"{where}: no run of classify, or one of an older version; {SAVE}") from None
    counts = {len(keys) for keys in (*made.of_scales.values(), *([made.of_views] if looked.views else []))}
    one_network = len(networks) == 1 and {stage for stage, _ in networks} == {STAGE}
    if not one_network or counts - {len(looked.pictures)} or len(made.outputs) != len(looked.classes):
        raise StageError(f"{where}: its lists are not of one whole run; {SAVE}")
    return made


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
