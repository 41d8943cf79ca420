"""Training in chunks: against one fit of all rows at once, whatever the memory and the workers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.svm import LinearSVR
from stage_context import Messages

from cache.errors import StageError
from manifests import ImageRecord
from stages.segmentation import training
from stages.segmentation.regressors import Regressors, read_regressors, write_regressors
from stages.segmentation.rows import TrainingImage
from stages.segmentation.settings import SvrSettings
from stages.segmentation.training import Fit, mean_row_norm, mean_targets, overlaps_reached, train_regressors
from stages.svm.tube import TubeProblem, fit_tube

D, CLASSES = 24, ("cat", "dog", "owl")


def record(number: int) -> ImageRecord:
    boxes, labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    return ImageRecord(number, f"{number}.jpg", 9, 9, f"{number:064x}", "train", boxes, labels)


def images(n: int = 12, rows: int = 30) -> dict[int, TrainingImage]:
    """Rows of which a few overlap a class much, the more the larger one of their features is."""
    rng, found = np.random.default_rng(0), {}
    for number in range(n):
        values = np.maximum(rng.normal(size=(rows, D)), 0).astype(np.float16)
        targets = np.clip(values[:, :3].astype(np.float32) / 2 - 0.4 + rng.normal(0, 0.1, (rows, 3)), 0, 1)
        counts = np.where(targets.max(axis=1) > 0.6, 2.0, 1.0)
        found[number] = TrainingImage(values, targets.astype(np.float32), counts, 2)
    return found


IMAGES = images()
RECORDS = [record(number) for number in IMAGES]
MEANS = mean_targets(lambda one: IMAGES[one.id].targets, RECORDS)


def train(workers: int = 1, **options: Any) -> tuple[NDArray[np.float32], list[Fit]]:
    settings = SvrSettings(**{"gap": 1e-6, "epsilon": 0.1, **options})
    (pair,) = settings.pairs()
    return train_regressors(
        lambda one: IMAGES[one.id], RECORDS, CLASSES, MEANS, 0.25, TubeProblem(*pair), settings, 3, workers, Messages()
    )


def objective(w: NDArray[Any], label: int, epsilon: float = 0.1) -> float:
    total = 0.5 * float(np.asarray(w, np.float64) @ w)
    for image in IMAGES.values():
        z = image.values.astype(np.float64) * 0.25 @ w - (image.targets[:, label] - MEANS[label])
        total += 3 * float((image.counts * np.maximum(0, np.abs(z) - epsilon) ** 2).sum())
    return total


def test_all_rows_at_once_are_scikit_learns_fit() -> None:
    weights, fits = train()
    assert len(fits) == 3 and all(fit.converged and fit.rows == 360 for fit in fits)
    x = np.concatenate([one.values for one in IMAGES.values()]).astype(np.float64) * 0.25
    counts = np.concatenate([one.counts for one in IMAGES.values()])
    for label, fit in enumerate(fits):
        y = np.concatenate([one.targets[:, label] for one in IMAGES.values()]) - MEANS[label]
        theirs = LinearSVR(
            loss="squared_epsilon_insensitive", C=3, epsilon=0.1, fit_intercept=False, tol=1e-9, max_iter=10**5,
            random_state=0,
        ).fit(x, y, counts)  # fmt: skip
        assert fit.objective == pytest.approx(objective(theirs.coef_, label), rel=1e-4)
        np.testing.assert_allclose(weights[label], theirs.coef_, atol=5e-3 * np.abs(theirs.coef_).max())


def test_chunks_come_near_to_it_and_keep_what_they_must(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that a chunk found in the tube may have left it by the end; O2P's way takes no second look."""
    monkeypatch.setattr("stages.segmentation.training._capacity", lambda image, mb: 260)
    weights, fits = train(epsilon=0.2)
    monkeypatch.undo()
    whole, _ = train(epsilon=0.2)
    assert max(fit.chunk for fit in fits) >= 1
    later = [fit for fit in fits if fit.chunk]
    assert all(fit.rows < 30 * fit.images_seen for fit in later)
    assert fits[-1].images_seen == 12
    for label in range(3):
        assert objective(weights[label], label, 0.2) <= 1.1 * objective(whole[label], label, 0.2)


def test_a_later_chunk_sees_objects_former_supports_and_new_rows_outside_the_tube(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And no others; the solver goes on from the supports' multipliers."""
    chunks, starts, epsilon = [], [], 0.2
    fit_chunk = training._fit_chunk

    def chunk(pool: Any, weights: NDArray[np.float64], *rest: Any) -> Any:
        kept = ("used", "is_object", "is_new", "values", "targets", "multipliers")
        chunks.append(({name: getattr(pool, name).copy() for name in kept}, weights))
        return fit_chunk(pool, weights, *rest)

    def fit(rows: Any, problem: Any, gap: float, seed: int, start: NDArray[np.float64]) -> Any:
        starts.append((rows.slots.copy(), start.copy()))
        return fit_tube(rows, problem, gap, seed, start)

    monkeypatch.setattr(training, "_capacity", lambda image, mb: 260)
    monkeypatch.setattr(training, "_fit_chunk", chunk)
    monkeypatch.setattr(training, "fit_tube", fit)
    train(epsilon=epsilon)
    assert len(chunks) > 1
    for number, (pool, weights) in enumerate(chunks):
        for label in range(3):
            slots, start = starts[3 * number + label]
            np.testing.assert_array_equal(start, pool["multipliers"][slots, label])
            if number == 0:
                np.testing.assert_array_equal(slots, np.flatnonzero(pool["used"]))
                continue
            z = pool["values"].astype(np.float64) * 0.25 @ weights[label] - pool["targets"][:, label]
            must = pool["used"] & (pool["is_object"] | (pool["multipliers"][:, label] != 0))
            outside = pool["used"] & pool["is_new"] & (np.abs(z) > epsilon)
            near = np.abs(np.abs(z) - epsilon) < 1e-4  # where float32 may say otherwise
            seen = np.isin(np.arange(len(z)), slots)
            np.testing.assert_array_equal(seen[~near], (must | outside)[~near])
            assert start.any() and (must & ~outside).any() and (outside & ~must).any() and not seen[pool["used"]].all()


@pytest.mark.parametrize("solver", ["dual", "liblinear"])
def test_workers_change_no_bit(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.segmentation.training._capacity", lambda image, mb: 300)
    (one, fits), (two, others) = train(solver=solver, epsilon=0.2), train(2, solver=solver, epsilon=0.2)
    assert np.array_equal(one, two) and fits == others


def test_liblinear_comes_to_the_same() -> None:
    ours, _ = train()
    theirs, fits = train(solver="liblinear", tolerance=1e-6)
    np.testing.assert_allclose(ours, theirs, atol=5e-3 * np.abs(theirs).max())
    assert all(fit.gap is None and fit.supports > 0 for fit in fits)


def test_memory_that_does_not_hold_what_must_be_kept_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.segmentation.training._capacity", lambda image, mb: 70)
    with pytest.raises(StageError, match=r"svr\.memory_limit_mb: 2048 MiB hold 70 rows, .*set it higher"):
        train(epsilon=0)


def test_means_and_norm_are_of_all_rows() -> None:
    every = np.concatenate([one.targets for one in IMAGES.values()]).astype(np.float64)
    np.testing.assert_allclose(MEANS, every.mean(axis=0), rtol=1e-9)
    rows = np.concatenate([one.values for one in IMAGES.values()]).astype(np.float64)
    found = mean_row_norm(lambda one: IMAGES[one.id], RECORDS, 0)
    assert found == pytest.approx(np.linalg.norm(rows, axis=1).mean(), rel=1e-5)


def test_the_best_scored_regions_overlaps_are_those_of_the_classes_that_regions_meet() -> None:
    targets = np.array([[0.5, 0, 0], [0.2, 0, 0.7], [0.9, 0, 0.1]], np.float32)
    scores = np.array([[0.4, 9, 0.3], [0.6, 9, 0.3], [0.5, 9, 0.2]], np.float32)
    assert overlaps_reached(scores, targets) == pytest.approx([0.2, 0])  # no region meets the second; 0.3 ties
    assert overlaps_reached(scores[:0], targets[:0]) == []


def test_every_c_is_tried_with_every_epsilon() -> None:
    assert SvrSettings(C=[1, 3], epsilon=[0.1, 0.25]).pairs() == [(1, 0.1), (1, 0.25), (3, 0.1), (3, 0.25)]
    assert SvrSettings().pairs() == [(3, 0.25)]


def test_features_that_are_all_0_and_no_rows_are_told() -> None:
    empty = TrainingImage(np.zeros((2, D), np.float16), np.zeros((2, 3), np.float32), np.ones(2), 0)
    with pytest.raises(StageError, match="all features of the training regions are 0"):
        mean_row_norm(lambda one: empty, RECORDS, 0)
    with pytest.raises(StageError, match="neither regions nor objects"):
        mean_targets(lambda one: np.zeros((0, 3), np.float32), RECORDS)


def test_a_model_is_read_as_it_was_written(tmp_path: Path) -> None:
    model = Regressors("full_fg", "fc6", CLASSES, 0.25, train()[0], MEANS.astype(np.float32))
    write_regressors(tmp_path / "model.h5", replace(model, chosen=(0.3, 0.25)))
    assert read_regressors(tmp_path / "model.h5").chosen == (0.3, 0.25)
    write_regressors(tmp_path / "model.h5", model)
    assert read_regressors(tmp_path / "model.h5").chosen is None
    first = (tmp_path / "model.h5").read_bytes()
    write_regressors(tmp_path / "model.h5", model)
    assert (tmp_path / "model.h5").read_bytes() == first
    found = read_regressors(tmp_path / "model.h5")
    assert (found.features, found.layer, found.classes, found.feature_scale) == ("full_fg", "fc6", CLASSES, 0.25)
    assert np.array_equal(found.weights, model.weights) and np.array_equal(found.means, model.means)


def further_model() -> Regressors:
    """Three classes, the background and any object; each regressor reads one number of a row."""
    weights = np.zeros((5, D), np.float32)
    weights[np.arange(5), np.arange(5)] = 1
    return Regressors("full", "fc6", CLASSES, 1.0, weights, np.zeros(5, np.float32), ("background", "object"))


def test_a_model_with_further_regressors_is_read_as_it_was_written(tmp_path: Path) -> None:
    model = further_model()
    write_regressors(tmp_path / "model.h5", model)
    found = read_regressors(tmp_path / "model.h5")
    assert found.further == ("background", "object") and np.array_equal(found.weights, model.weights)
    write_regressors(tmp_path / "model.h5", replace(model, further=("object", "background")))
    with pytest.raises(StageError, match="attribute 'further' is no list of background, object in this order"):
        read_regressors(tmp_path / "model.h5")
    write_regressors(tmp_path / "model.h5", replace(model, further=("object",)))
    with pytest.raises(StageError, match="array 'weights' is float32 5x24, expected float32 4xany"):
        read_regressors(tmp_path / "model.h5")


def test_regions_are_ranked_among_those_that_are_best_for_an_object_of_any_class() -> None:
    """The background is a class after the last; of four regions the two with the largest fifth number take part."""
    rows = np.zeros((4, D), np.float32)
    rows[:, :5] = [[0.9, 0, 0, 0, 0.1], [0.2, 0.3, 0, 0.4, 0.6], [0.5, 0, 0.6, 0, 0.5], [0.8, 0, 0, 0, 0.5]]
    every = further_model().ranked(rows, None)
    assert every.regions.tolist() == [0, 3, 2, 1] and every.labels.tolist() == [0, 0, 2, 3]
    some = further_model().ranked(rows, 2)
    assert some.regions.tolist() == [2, 1] and some.labels.tolist() == [2, 3]  # of 2 and 3, equal, the first
    np.testing.assert_allclose(some.scores, [0.6, 0.4])
    blind = replace(further_model(), weights=np.eye(5, D, dtype=np.float32)[[0, 1, 2, 4]], further=("object",))
    blind = replace(blind, means=np.zeros(4, np.float32))
    assert blind.ranked(rows, 2).labels.tolist() == [2, 1]  # without a regressor of the background it is none


def test_scores_are_expected_overlaps() -> None:
    model = Regressors("full", "fc6", CLASSES, 0.25, train()[0], MEANS.astype(np.float32))
    rows, targets = IMAGES[0].values, IMAGES[0].targets
    found = model.scores(rows)
    np.testing.assert_allclose(found, rows.astype(np.float64) * 0.25 @ model.weights.T + MEANS, atol=1e-5)
    assert np.abs(found - targets).mean() < 0.12


def test_a_file_of_other_features_is_refused(tmp_path: Path) -> None:
    model = Regressors("half", "fc6", CLASSES, 0.25, np.zeros((3, D), np.float32), np.zeros(3, np.float32))
    write_regressors(tmp_path / "model.h5", model)
    with pytest.raises(StageError, match=r"model\.h5: features is 'half', expected one of full, fg, full_fg"):
        read_regressors(tmp_path / "model.h5")
