"""VOC 2007's and Caltech101's way to judge features: linear SVMs, mean AP, accuracy over random splits."""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.errors import StageError
from manifests import ImageRecord
from stages.contract import Log
from stages.networks.network import Network
from stages.scoring.voc import area_ap, eleven_point_ap

_MOST_ITERATIONS = 10_000


def fit(features: NDArray[np.float32], labels: NDArray[np.int64], C: float, seed: int, log: Log) -> Any:
    """A fitted ``LinearSVC`` (liblinear, hinge loss, bias regularised) of ``features`` float32 [n, d].

    ``labels`` int64 [n]: -1 and 1, or several classes, each then against the rest. Where it does not converge the log
    says so, and it is used as it is.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    svm = LinearSVC(C=C, loss="hinge", dual=True, random_state=seed, max_iter=_MOST_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # told below, in our words
        svm.fit(features, labels)
    if np.max(svm.n_iter_) >= _MOST_ITERATIONS:
        log.warning(f"an SVM was stopped after {_MOST_ITERATIONS} iterations; lower classify_svm.C")
    return svm


def voc(
    features: NDArray[np.float32],
    labels: NDArray[np.int8],
    train: NDArray[np.bool_],
    classes: Sequence[str],
    C: float,
    seed: int,
    log: Log,
) -> dict[str, Any]:
    """Train on the rows of ``train``, AP in % of each class on the others; label 0 takes no part in either.

    ``features`` [n, d], ``labels`` [n, N] in -1, 0, 1. A class that cannot be learnt or tested (no picture shows it, or
    all do) has AP None and is in no mean.
    """
    points: dict[str, float | None] = {}
    areas: dict[str, float | None] = {}
    for k, name in enumerate(classes):
        fitted, tested = (np.flatnonzero(side & (labels[:, k] != 0)) for side in (train, ~train))
        truth = labels[tested, k] > 0
        points[name] = areas[name] = None
        if len(set(labels[fitted, k])) == 2 and truth.any():
            svm = fit(features[fitted], labels[fitted, k].astype(np.int64), C, seed, log)
            ranked = truth[np.argsort(-svm.decision_function(features[tested]), kind="stable")]
            found = np.cumsum(ranked)
            recall, precision = found / found[-1], found / np.arange(1, len(found) + 1)
            points[name] = 100 * eleven_point_ap(recall, precision)
            areas[name] = 100 * area_ap(recall, precision)
    means = {"mAP_11_point": _mean(points.values()), "mAP_area": _mean(areas.values())}
    return {**means, "AP_11_point": points, "AP_area": areas}


def draw_split(
    labels: NDArray[np.int64],
    classes: Sequence[str],
    train_per_class: int,
    test_per_class: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to train on, so many of each class, and at most so many others of each to test; ``labels`` int64 [n].

    StageError naming a class that has no picture left to test, and where there is one class only.
    """
    if len(classes) < 2:
        raise StageError(f"classify_svm.protocol: splits needs two classes or more, there is only {classes[0]!r}")
    train, test = [], []
    for k, name in enumerate(classes):
        rows = rng.permutation(np.flatnonzero(labels == k))
        if len(rows) <= train_per_class:
            raise StageError(
                f"class {name!r} has {len(rows)} pictures, which leaves none to test after "
                f"classify_svm.train_per_class = {train_per_class}; lower it"
            )
        train.append(rows[:train_per_class])
        test.append(rows[train_per_class:][:test_per_class])
    return np.concatenate(train), np.concatenate(test)


def splits(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    drawn: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    C: float,
    seed: int,
    log: Log,
) -> dict[str, Any]:
    """Accuracy in %, averaged over the classes of each split: the mean over the splits, and its sample deviation.

    ``features`` [n, d], ``labels`` [n]; ``drawn`` as :func:`draw_split` gives it. The deviation of one split is None.
    """
    accuracies = []
    for train, test in drawn:
        right = fit(features[train], labels[train], C, seed, log).predict(features[test]) == labels[test]
        accuracies.append(float(np.mean([100 * right[labels[test] == k].mean() for k in np.unique(labels[test])])))
    deviation = float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None
    return {"accuracy": float(np.mean(accuracies)), "deviation": deviation, "accuracies": accuracies}


def _mean(values: Iterable[float | None]) -> float | None:
    """Average those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def picture_labels(records: Sequence[ImageRecord], n_classes: int) -> NDArray[np.int8]:
    """int8 [n, N]: 1 where the picture shows the class, -1 where it does not, 0 where only difficult objects are of it.

    A picture shows its own class, or those of its objects. As in VOC's classification task, 0 counts for nothing.
    """
    labels = np.full((len(records), n_classes), -1, np.int8)
    for row, record in zip(labels, records, strict=True):
        if record.category is not None:
            row[record.category] = 1
        row[record.labels[record.difficult]] = 0
        row[record.labels[~record.difficult]] = 1
    return labels


def computed_layers(network: Network, layers: Sequence[str], *, full: bool) -> list[str]:
    """The network's layers behind the named ones, sorted; StageError for one that does not fit network or view."""
    for layer in layers:
        base, _, level = layer.partition("/")
        if level and (base != "pool5" or int(level) not in (network.pyramid or ())):
            levels = "no pyramid" if network.pyramid is None else f"a pyramid of {list(network.pyramid)}"
            raise StageError(f"classify_svm.layers: there is no level {layer!r}; the network has {levels}")
        if full and base != "pool5":
            try:
                network.fc_graph([base])
            except StageError as error:
                raise StageError(
                    f"classify_svm.layers: {error}, so its length would be another for each full picture; leave it "
                    "out or set classify_svm.view to crop"
                ) from error
    return sorted({layer.partition("/")[0] for layer in layers})


def level_columns(layer: str, pyramid: Sequence[int] | None, length: int) -> slice:
    """The columns of a computed layer of ``length`` that are the named one: all, or one level of the pyramid."""
    level = layer.partition("/")[2]
    if not level or pyramid is None:
        return slice(0, length)
    channels = length // sum(n * n for n in pyramid)
    before = sum(n * n for n in pyramid[: list(pyramid).index(int(level))])
    return slice(channels * before, channels * (before + int(level) ** 2))


def normalised(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows [n, d] of length 1; one of zeros stays."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    norms[norms == 0] = 1
    unit: NDArray[np.float32] = features / norms
    return unit
