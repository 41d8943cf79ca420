"""Hard negative mining against a slow, obvious version, against the full problem, and at its edges."""

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from stage_context import Messages

from cache.errors import StageError
from stages.svm.dual import Start, fit_dual
from stages.svm.fitting import TrainingRows, fit_class
from stages.svm.liblinear import fit_liblinear, node_bytes
from stages.svm.mining import train_svms
from stages.svm.negative_pool import NegativePool
from stages.svm.problem import DualSolution, Solution, SvmProblem
from stages.svm.records import FitRecord
from stages.svm.rows import Rows, squared_norms
from stages.svm.settings import SvmSettings

SCALE = 2.0


def gap_of(record: FitRecord) -> float:
    """The duality gap, which a fit by the dual solver has."""
    assert record.gap is not None
    return record.gap


@dataclass
class Regions:
    image_id: int
    is_gt: np.ndarray
    gt_class: np.ndarray
    overlaps: np.ndarray
    features: np.ndarray
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))  # not looked at with these settings


def make_images(seed: int = 0, n_images: int = 6, n_rows: int = 60, d: int = 20, n_classes: int = 3) -> list[Regions]:
    """Images with one object of each class first, and regions whose features lean to a class with their IoU."""
    rng = np.random.default_rng(seed)
    images = []
    for i in range(n_images):
        overlaps = (rng.random((n_rows, n_classes)) ** 3).astype(np.float32)
        overlaps[:n_classes] = np.eye(n_classes)
        lean = np.zeros((n_rows, d))
        lean[:, :n_classes] = 2 * overlaps
        features = np.maximum(rng.normal(size=(n_rows, d)) + lean, 0).astype(np.float16)
        gt_class = np.full(n_rows, -1)
        gt_class[:n_classes] = np.arange(n_classes)
        images.append(Regions(100 + i, gt_class >= 0, gt_class, overlaps, features))
    return images


NAMES = ("a", "b", "c")
AMPLE = 2**30  # bytes


def rows_of(positives: np.ndarray, negatives: np.ndarray) -> Rows:
    norms = squared_norms(np.concatenate([positives, negatives]))
    return Rows(positives, negatives, np.arange(len(negatives)), norms, SCALE)


class SlowFits:
    """Fits on plain arrays; for the dual solver each class's last multipliers and scores by key."""

    def __init__(self, settings: SvmSettings) -> None:
        self.settings = settings
        self.last: dict[int, tuple[np.ndarray, float, dict[Any, Any]]] = {}

    def __call__(self, j: int, positives: np.ndarray, cache: list[Any], seed: int, is_last: bool) -> Solution:
        keys, x = [key for key, *_ in cache], np.array([x for _, x, _ in cache])
        rows, problem = rows_of(positives, x), SvmProblem.of(self.settings)
        if self.settings.solver == "liblinear":
            return fit_liblinear(rows, problem, self.settings.tolerance, seed)
        w, b, known = self.last.get(j, (np.zeros(x.shape[1]), 0.0, {}))
        p = len(positives)
        names = [*range(p), *keys]
        entering = [0.0] * p + [score for *_, score in cache]
        state = [known.get(name, (0.0, score, 0.0)) for name, score in zip(names, entering, strict=True)]
        multipliers, scores, staleness = (np.array(values) for values in zip(*state, strict=True))
        start = Start(multipliers, scores.astype(np.float32), staleness.astype(np.float32), w, b)
        threshold = self.settings.evict_below
        gap = self.settings.gap if is_last else self.settings.mining_gap
        found = fit_dual(rows, start, problem, gap, seed, threshold=threshold)
        if not is_last and (found.scores[p:] < threshold).all():
            found = fit_dual(rows, start, problem, self.settings.gap, seed, threshold=threshold)
        known = dict(zip(names, zip(found.multipliers, found.scores, found.staleness, strict=True), strict=True))
        self.last[j] = found.w.astype(np.float32), float(np.float32(found.b)), known
        return found


def slow_mining(
    images: Sequence[Regions], settings: SvmSettings, seed: int
) -> tuple[np.ndarray, np.ndarray, list[Any]]:
    """The recipe row by row, per class, with lists and a set of keys; no limit on memory."""
    n_classes, d = images[0].overlaps.shape[1], images[0].features.shape[1]
    w, b = np.zeros((n_classes, d), np.float32), np.zeros(n_classes, np.float32)
    history = []
    fit_class = SlowFits(settings)
    caches: list[list[tuple[tuple[int, int], np.ndarray, float]]] = [[] for _ in range(n_classes)]
    fits, new = [0] * n_classes, [0] * n_classes
    for number in range(settings.passes):
        for k, image in enumerate(images):
            # the image is scored for all classes before any of them is refitted
            scores = image.features.astype(np.float32) @ (w * np.float32(SCALE)).T + b
            for j in range(n_classes):
                held = {key for key, *_ in caches[j]}
                for r, x in enumerate(image.features):
                    key = (image.image_id, r)
                    negative = image.overlaps[r, j] < settings.negative_iou
                    if negative and key not in held and (fits[j] == 0 or scores[r, j] > settings.margin):
                        caches[j].append((key, x, scores[r, j]))
                        new[j] += 1
                last = number == settings.passes - 1 and k == len(images) - 1
                if caches[j] and (fits[j] == 0 or new[j] > settings.retrain_after or last):
                    caches[j].sort(key=lambda entry: entry[0])
                    positives = np.array(
                        [x for i in images for x, c in zip(i.features, i.gt_class, strict=True) if c == j]
                    )
                    fit_seed = int(np.random.SeedSequence([seed, j, fits[j]]).generate_state(1)[0])
                    result = fit_class(j, positives, caches[j], fit_seed, last)
                    w[j], b[j] = result.w, result.b
                    z = [float(x.astype(np.float32) @ (w[j] * np.float32(SCALE)) + b[j]) for _, x, _ in caches[j]]
                    kept = [entry for entry, s in zip(caches[j], z, strict=True) if s >= settings.evict_below]
                    history.append((NAMES[j], image.image_id, len(caches[j]), new[j], len(caches[j]) - len(kept)))
                    caches[j], new[j] = kept, 0
                    fits[j] += 1
    return w, b, history


@pytest.mark.parametrize("solver", ["dual", "liblinear"])
@pytest.mark.parametrize(
    "settings",
    [
        SvmSettings(retrain_after=20, C=0.02),
        SvmSettings(retrain_after=20, C=0.1, passes=2),
        SvmSettings(retrain_after=10**6, C=0.1, margin=-0.5, evict_below=-0.7),
    ],
    ids=["one pass", "two passes", "refit at the end only"],
)
def test_equals_the_slow_version(settings: SvmSettings, solver: str) -> None:
    settings = settings.model_copy(update={"solver": solver})
    images = make_images()
    model, records = train_svms(images, NAMES, SCALE, settings, 7, Messages())
    w, b, history = slow_mining(images, settings, 7)
    assert [(r.class_name, r.image_id, r.negatives, r.new_negatives, r.evicted) for r in records] == history
    assert any(evicted for *_, evicted in history)
    np.testing.assert_array_equal(model.weights, w)
    np.testing.assert_array_equal(model.bias, b)


def test_any_number_of_workers_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.svm.hard_negatives.SCORED_AT_ONCE", 16)  # so that an image's 60 rows are shared out
    images = make_images(8, n_classes=3)
    settings = SvmSettings(retrain_after=20, C=0.05)
    one, few = (train_svms(images, NAMES, SCALE, settings, 7, Messages(), workers=n) for n in (1, 3))
    assert one[1] == few[1]
    np.testing.assert_array_equal(one[0].weights, few[0].weights)
    np.testing.assert_array_equal(one[0].bias, few[0].bias)


@pytest.mark.parametrize("storage", [np.float16, np.float32])
def test_the_dual_solver_ranks_as_liblinear_does(storage: type) -> None:
    images = make_images(9, n_images=12, n_rows=200, d=200)
    for image in images:
        image.features = image.features.astype(storage)
    unseen = make_images(10, n_images=12, n_rows=200, d=200)
    precision = {}
    for solver in ("dual", "liblinear"):
        # all negatives cached: which are mined on the way differs between solvers, and so, on few images, does AP
        settings = SvmSettings(C=0.02, tolerance=1e-3, margin=-1e6, evict_below=-1e6, solver=solver)
        model, records = train_svms(images, NAMES, 0.5, settings, 7, Messages())
        assert all((r.gap is None) == (solver == "liblinear") for r in records)
        assert solver == "liblinear" or all(0 <= gap_of(r) <= settings.gap for r in records[-3:])
        scores = np.concatenate([model.scores(image.features) for image in unseen])
        truth = np.concatenate([image.overlaps >= 0.5 for image in unseen])
        precision[solver] = np.array([average_precision_score(truth[:, j], scores[:, j]) for j in range(3)])
    assert precision["liblinear"].min() < 0.99  # the task is not trivial
    np.testing.assert_allclose(precision["dual"], precision["liblinear"], atol=0.002)


def full_problem(
    images: Sequence[Regions], j: int, settings: SvmSettings
) -> tuple[np.ndarray, np.ndarray, Callable[[np.ndarray, float], float]]:
    """All positives and all negatives of a class, and the objective over them of any (w, b)."""
    x = np.concatenate([i.features for i in images])
    positive = np.concatenate([i.gt_class for i in images]) == j
    negative = np.concatenate([i.overlaps[:, j] for i in images]) < settings.negative_iou

    def value(w: np.ndarray, b: float) -> float:
        z = x.astype(np.float64) * SCALE @ w + b
        return SvmProblem.of(settings).objective(w, b, z[positive], z[negative]).total

    return x[positive], x[negative], value


def test_with_everything_cached_it_is_the_full_problem() -> None:
    settings = SvmSettings(C=0.01, tolerance=1e-5, retrain_after=10**6, margin=-1e6, evict_below=-1e6)
    images = make_images(1)
    model, _ = train_svms(images, NAMES, SCALE, settings, 0, Messages())
    for j in range(len(NAMES)):
        positives, negatives, value = full_problem(images, j, settings)
        full = fit_liblinear(rows_of(positives, negatives), SvmProblem.of(settings), settings.tolerance, seed=1)
        ours, best = value(model.weights[j], model.bias[j]), value(full.w, full.b)
        # liblinear stops after 300 iterations, a little above
        assert (1 - 1e-3) * best <= ours <= (1 + 1e-4) * best


def test_mined_negatives_alone_reach_the_full_problems_objective() -> None:
    # what is left out scores at most the margin, where the hinge is zero: both problems have the same optimum
    settings = SvmSettings(C=0.01, tolerance=1e-4, retrain_after=0, passes=4)
    images = make_images(1)
    model, records = train_svms(images, NAMES, SCALE, settings, 0, Messages())
    for j, name in enumerate(NAMES):
        positives, negatives, value = full_problem(images, j, settings)
        full = fit_liblinear(rows_of(positives, negatives), SvmProblem.of(settings), settings.tolerance, seed=1)
        last = [r for r in records if r.class_name == name][-1]
        assert last.negatives < len(negatives)
        assert last.objective <= value(full.w, full.b) * 1.001
        assert value(model.weights[j], model.bias[j]) == pytest.approx(value(full.w, full.b), rel=5e-3)


def test_log_adds_up() -> None:
    images = make_images(2)
    log = Messages()
    _, records = train_svms(images, NAMES, SCALE, SvmSettings(retrain_after=30, C=0.1), 0, log)
    for j, name in enumerate(NAMES):
        mine = [r for r in records if r.class_name == name]
        assert [r.fit for r in mine] == list(range(1, len(mine) + 1))
        assert mine[0].image_id == images[0].image_id and mine[-1].image_id == images[-1].image_id
        assert mine[0].negatives == (images[0].overlaps[:, j] < 0.3).sum()
        for before, after in itertools.pairwise(mine):
            assert after.negatives == before.negatives - before.evicted + after.new_negatives
        assert all(r.positives == len(images) for r in mine)
        assert all(r.objective == pytest.approx(r.regulariser + r.positive_loss + r.negative_loss) for r in mine)
    assert len(log.infos) == len(records) and not log.warnings


def test_a_class_is_refitted_after_more_than_so_many_new_negatives() -> None:
    images = make_images()

    def second_fit(retrain_after: int) -> FitRecord:
        settings = SvmSettings(retrain_after=retrain_after, C=0.05)
        _, records = train_svms(images, NAMES, SCALE, settings, 0, Messages())
        return next(r for r in records if r.class_name == "a" and r.fit == 2)

    found = second_fit(20)
    assert found.image_id != images[-1].image_id
    assert second_fit(found.new_negatives - 1) == found
    assert second_fit(found.new_negatives).images_seen > found.images_seen


@pytest.mark.parametrize("solver", ["dual", "liblinear"])
def test_same_seed_same_bits(solver: str) -> None:
    images = make_images(3)
    settings = SvmSettings(C=1.0, tolerance=0.5, solver=solver)
    runs = [train_svms(images, NAMES, SCALE, settings, seed, Messages())[0] for seed in (1, 1, 2)]
    assert np.array_equal(runs[0].weights, runs[1].weights)
    assert not np.array_equal(runs[0].weights, runs[2].weights)


def test_a_first_image_without_regions_is_passed_over() -> None:
    images = make_images(4)
    empty = Regions(
        1, np.zeros(0, bool), np.zeros(0, np.int64), np.zeros((0, 3), np.float32), np.zeros((0, 20), np.float16)
    )
    with_empty, records = train_svms([empty, *images, empty], NAMES, SCALE, SvmSettings(), 0, Messages())
    without, _ = train_svms(images, NAMES, SCALE, SvmSettings(), 0, Messages())
    assert records[0].image_id == images[0].image_id
    np.testing.assert_array_equal(with_empty.weights, without.weights)


def test_every_class_without_objects_is_named() -> None:
    images = make_images()
    for image in images:
        image.is_gt = image.is_gt & (image.gt_class == 1)
    with pytest.raises(StageError) as error:
        train_svms(images, NAMES, SCALE, SvmSettings(), 0, Messages())
    lines = str(error.value).splitlines()
    assert len(lines) == 2 and lines[0].startswith("class 'a'") and lines[1].startswith("class 'c'")


def test_a_class_without_negatives_is_named() -> None:
    images = make_images()
    for image in images:
        image.overlaps[:, 1] = 0.9
    with pytest.raises(StageError, match=r"class 'b': no region .* svm\.negative_iou"):
        train_svms(images, NAMES, SCALE, SvmSettings(), 0, Messages())


@pytest.mark.parametrize(("mining_gap", "widest"), [(0.01, 0.01), (0.2, 0.2), (1e-6, 1e-4)])
def test_only_a_classs_last_fit_is_exact(mining_gap: float, widest: float) -> None:
    settings = SvmSettings(C=0.1, retrain_after=20, passes=2, mining_gap=mining_gap)
    _, records = train_svms(make_images(), NAMES, SCALE, settings, 0, Messages())
    last, before = records[-3:], records[:-3]
    assert {r.class_name for r in last} == set(NAMES) and len(before) >= 6
    assert all(gap_of(r) <= 1e-4 for r in last)
    assert 1e-4 < max(gap_of(r) for r in before) <= widest or max(gap_of(r) for r in before) <= widest == 1e-4


def test_a_fit_that_leaves_no_negative_is_exact_since_none_may_follow() -> None:
    images = make_images()
    # after the first image every row is an object's neighbour, so that what comes of it is final
    for image in images[1:]:
        image.overlaps = np.maximum(image.overlaps, 0.5)
    settings = SvmSettings(C=0.001, evict_below=1e6, mining_gap=0.3)
    _, records = train_svms(images, NAMES, SCALE, settings, 0, Messages())
    assert [(r.class_name, r.fit, r.evicted == r.negatives) for r in records] == [(name, 1, True) for name in NAMES]
    assert all(gap_of(r) <= 1e-4 for r in records)


@pytest.mark.parametrize(
    ("options", "knobs"),
    [
        ({}, {"svm.mining_gap = 0.0001", "svm.gap = 1e-06"}),
        ({"mining_gap": 1e-6}, {"svm.gap = 1e-06"}),
        ({"solver": "liblinear"}, {"svm.tolerance = 1e-09"}),
    ],
)
def test_non_convergence_names_the_knob(
    options: dict[str, Any], knobs: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.svm.dual.MAX_EPOCHS", 5)
    log = Messages()
    settings = SvmSettings(**{"C": 1000, "tolerance": 1e-9, "gap": 1e-6, "mining_gap": 1e-4, **options})
    _, records = train_svms(make_images(), NAMES, SCALE, settings, 0, log)
    assert not all(r.converged for r in records)
    assert len(log.warnings) == sum(not r.converged for r in records)
    pattern = r"ConvergenceWarning: .* without reaching (.*); raise (.*) or lower svm.C"
    named = [match for w in log.warnings if (match := re.search(pattern, w))]
    assert len(named) == len(log.warnings)
    assert {match[1] for match in named} == knobs
    assert all(match[1].startswith(match[2] + " =") for match in named)


def test_the_knob_that_is_named_is_the_one_that_the_fit_was_stopped_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit while mining that leaves no negative is made exact: it misses svm.gap, not svm.mining_gap."""
    monkeypatch.setattr("stages.svm.dual.MAX_EPOCHS", 3)
    log = Messages()
    settings = SvmSettings(C=0.1, gap=1e-6, mining_gap=0.3, evict_below=1e6, passes=2)
    train_svms(make_images(), NAMES, SCALE, settings, 0, log)
    assert log.warnings and all("without reaching svm.gap = 1e-06; raise svm.gap" in line for line in log.warnings)


@pytest.mark.parametrize(("solver", "rows"), [("liblinear", 400), ("dual", 1200)])  # liblinear has a copy of its own
def test_memory_limit_forgets_the_easiest_and_says_so(solver: str, rows: int) -> None:
    images = make_images(5, n_images=4, n_rows=rows, d=300)
    log = Messages()
    settings = SvmSettings(memory_limit_mb=1, margin=-1e6, evict_below=-1e6, retrain_after=100, solver=solver)
    _, records = train_svms(images, NAMES, SCALE, settings, 0, log)
    assert len(log.warnings) >= 2
    assert all("MemoryLimitWarning" in w and "svm.memory_limit_mb = 1" in w for w in log.warnings)
    for name in NAMES:
        mine = [r for r in records if r.class_name == name]
        assert sum(r.evicted_for_memory for r in mine) > 0
        for before, after in itertools.pairwise(mine):
            gained = after.new_negatives - after.evicted_for_memory
            assert after.negatives == before.negatives - before.evicted + gained


def test_a_fit_starts_where_the_last_one_of_its_class_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[Start] = []
    ends: list[DualSolution] = []

    def watched(rows: Rows, start: Start, *arguments: Any) -> DualSolution:
        found = fit_dual(rows, start, *arguments)
        starts.append(start)
        ends.append(replace(found, staleness=np.arange(len(found.staleness)) / 8))
        return ends[-1]

    monkeypatch.setattr("stages.svm.fitting.fit_dual", watched)
    x = make_images(11)[0].features
    positives, negatives, more = x[:5], x[5:25], x[25:40]
    pool, scores = NegativePool(1, AMPLE), np.arange(20, dtype=np.float32)[:, None]
    rows, settings = TrainingRows([positives], pool, SCALE), SvmSettings(C=0.1)
    problem = SvmProblem.of(settings)
    pool.add(1, negatives, np.ones((20, 1), bool), scores)
    fitted = fit_class(rows, 0, problem, settings, seed=0, is_last=True)
    stays = np.arange(20) % 3 > 0
    rows.keep(0, fitted, ~stays)
    pool.add(2, more, np.ones((15, 1), bool), scores[:15])
    fit_class(rows, 0, problem, settings, seed=1, is_last=True)
    start, end, none = starts[1], ends[0], np.zeros(15)
    kept = np.concatenate([np.ones(5, bool), stays])
    np.testing.assert_array_equal(start.multipliers, np.concatenate([end.multipliers[kept], none]))
    expected = np.concatenate([end.scores[kept], scores[:15, 0]])
    np.testing.assert_array_equal(start.scores.astype(np.float32), expected.astype(np.float32))
    # positives are looked at in every fit, whatever the threshold
    np.testing.assert_array_equal(start.staleness, np.concatenate([np.zeros(5), end.staleness[5:][stays], none]))
    np.testing.assert_array_equal(start.w, fitted.w)
    assert start.b == fitted.b


def held(pool: NegativePool, j: int) -> np.ndarray:
    """The rows that a class holds, in order."""
    return pool.stored()[0][pool.slots(j)]


class TestPool:
    def features(self, n: int = 6) -> np.ndarray:
        return np.arange(1, 1 + n * 4, dtype=np.float32).reshape(n, 4)

    def scores(self, n: int = 6) -> np.ndarray:
        return np.arange(2 * n, dtype=np.float32).reshape(n, 2)

    def test_a_key_is_cached_once_per_class(self) -> None:
        pool, x, z = NegativePool(2, AMPLE, node_bytes), self.features(), self.scores()
        wanted = np.zeros((6, 2), bool)
        wanted[[1, 3], 0] = True
        assert pool.add(9, x, wanted, z).tolist() == [2, 0]
        wanted[[3, 5], 1] = True
        assert pool.add(9, x, wanted, z).tolist() == [0, 2]
        assert pool.add(9, x, wanted, z).tolist() == [0, 0]
        assert pool.counts().tolist() == [2, 2]
        np.testing.assert_array_equal(held(pool, 0), x[[1, 3]])
        np.testing.assert_array_equal(held(pool, 1), x[[3, 5]])
        # three rows of 4 float32 once each; 2 rows x (4 values + bias + end) nodes of 16 bytes
        assert pool.n_bytes() == 3 * 16 + 2 * 6 * 16

    def test_rows_are_released_when_no_class_holds_them(self) -> None:
        pool, x = NegativePool(2, AMPLE, node_bytes), self.features()
        pool.add(1, x, np.ones((6, 2), bool), self.scores())
        pool.drop(0, np.array([True] * 5 + [False]))
        assert pool.counts().tolist() == [1, 6]
        pool.drop(1, np.array([False] + [True] * 5))
        assert pool.counts().tolist() == [1, 1]
        np.testing.assert_array_equal(held(pool, 0), x[5:])
        np.testing.assert_array_equal(held(pool, 1), x[:1])
        assert pool.n_bytes() == 2 * 16 + 6 * 16

    @pytest.mark.parametrize("limit", [0, 160, 10**6], ids=["grows", "outgrows what it reserved", "reserved"])
    def test_order_is_that_of_images_and_rows_wherever_rows_are_stored(self, limit: int) -> None:
        pool, x, z = NegativePool(2, limit), self.features(), self.scores()
        pool.add(1, x, np.ones((6, 2), bool), z)
        for j in (0, 1):
            pool.drop(j, np.array([False, True, False, True, False, True]))
        pool.add(2, x + 100, np.ones((6, 2), bool), z)  # some of it where image 1's rows were
        pool.add(1, x, np.array([[False] * 2] * 3 + [[True, False]] * 3), z)  # seen again
        assert len(pool.stored()[1]) < 18
        np.testing.assert_array_equal(held(pool, 0), np.concatenate([x[[0, 2, 3, 4, 5]], x + 100]))
        np.testing.assert_array_equal(held(pool, 1), np.concatenate([x[[0, 2, 4]], x + 100]))
        values, norms = pool.stored()
        np.testing.assert_allclose(norms[pool.slots(0)], (values[pool.slots(0)] ** 2).sum(1))

    def test_state_stays_with_its_row_and_class(self) -> None:
        pool, x, z = NegativePool(2, AMPLE), self.features(), self.scores()
        pool.add(1, x[:4], np.ones((4, 2), bool), z[:4])
        pool.set_state(0, np.array([1.0, 2, 3, 4]), np.array([5.0, 6, 7, 8]), np.array([0, 0.5, 2, 0]))
        pool.drop(0, np.array([False, True, False, False]))
        pool.add(2, x, np.array([[True, False]] * 6), -z)
        multipliers, scores, staleness = pool.state(0)
        assert multipliers.tolist() == [1, 3, 4] + 6 * [0]
        assert scores.tolist() == [5, 7, 8, *(-z[:, 0]).tolist()]
        assert staleness.tolist() == [0, 2, 0] + 6 * [0]
        assert pool.state(1)[1].tolist() == z[:4, 1].tolist()
        pool.add(1, x[:4], np.ones((4, 2), bool), z[:4])  # row 1 comes back to class 0 as a new one
        assert pool.state(0)[0].tolist() == [1, 0, 3, 4] + 6 * [0]
        assert pool.state(0)[1].tolist()[:4] == [5, z[1, 0], 7, 8]
        assert pool.state(0)[2].tolist()[:4] == [0, 0, 2, 0]

    def test_a_row_that_left_comes_back_into_memory_of_its_own(self) -> None:
        pool, x = NegativePool(2, AMPLE), self.features()
        everything = np.ones((6, 2), bool)
        pool.add(1, x, everything, self.scores())
        for j in (0, 1):
            pool.drop(j, np.ones(6, bool))
        pool.add(1, x, everything, self.scores())
        pool.add(2, x + 100, everything, self.scores())
        np.testing.assert_array_equal(held(pool, 0), np.concatenate([x, x + 100]))

    def test_the_easiest_are_forgotten_until_a_tenth_of_the_limit_is_free(self) -> None:
        pool = NegativePool(1, AMPLE)
        rng = np.random.default_rng(0)
        x, z = rng.random((200, 8)).astype(np.float32), rng.normal(size=(200, 1)).astype(np.float32)
        pool.add(1, x[:90], np.ones((90, 1), bool), z[:90])
        pool.add(2, x[90:], np.ones((110, 1), bool), z[90:])
        pool.limit_bytes = pool.n_bytes()
        assert pool.forget_easiest().tolist() == [0]
        pool.limit_bytes //= 2
        lost = pool.forget_easiest()[0]
        kept = held(pool, 0)
        assert 100 < lost < 120 and len(kept) == 200 - lost
        np.testing.assert_array_equal(kept, x[z[:, 0] >= np.sort(z[:, 0])[lost]])
