"""SVMs on pictures' features: labels, pyramid levels, both protocols against scikit-learn, and the stage."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from plain_arrays import as_boxes, as_flags, as_labels
from sklearn.metrics import average_precision_score, precision_recall_curve
from sklearn.preprocessing import normalize
from sklearn.svm import SVC
from stage_context import Messages, StageContext

from cache.errors import StageError
from manifests import Dataset, ImageRecord, ImageSource, ReadOptions, import_dataset
from stages.classification import picture_svms as protocols
from stages.classification.picture_svms import (
    computed_layers,
    draw_split,
    fit,
    level_columns,
    normalised,
    picture_labels,
    splits,
    voc,
)
from stages.classification.settings import ClassifySvmSettings
from stages.features.views import FULL, ViewNetwork
from stages.networks.network import build
from stages.networks.weights import save_weights

NAMES = ("ant", "bee", "cow")


def test_pictures_show_their_class_or_those_of_their_objects() -> None:
    box = [1, 1, 3, 3]
    boxed = ImageRecord(
        1, "a", 9, 9, "0" * 64, "train", as_boxes([box] * 4), as_labels([0, 2, 2, 1]), difficult=as_flags([0, 1, 0, 1])
    )
    bare = ImageRecord(2, "b", 9, 9, "0" * 64, "train", as_boxes([]), as_labels([]))
    own = ImageRecord(3, "c", 9, 9, "0" * 64, "train", as_boxes([]), as_labels([]), category=1)
    expected = [[1, 0, 1, -1], [-1, -1, -1, -1], [-1, 1, -1, -1]]
    np.testing.assert_array_equal(picture_labels([boxed, bare, own], 4), expected)


def test_a_level_is_the_maximum_over_its_bins() -> None:
    torch.set_num_threads(1)
    network = build("small", 2, pyramid=(1, 3, 2), generator=torch.Generator().manual_seed(0)).eval()
    image = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    found = ViewNetwork(network, ("pool5", network.conv5), 64, [FULL])(image)
    fmap = torch.from_numpy(found[network.conv5]).reshape(64, 8, 10)  # at 64 px: 8 cells by 8 * 80 / 64
    whole = found["pool5"][0]
    for level in (1, 2, 3):
        expected = torch.nn.functional.adaptive_max_pool2d(fmap, level).flatten().numpy()
        np.testing.assert_allclose(whole[level_columns(f"pool5/{level}", network.pyramid, len(whole))], expected)
    assert level_columns("pool5", network.pyramid, len(whole)) == slice(0, 64 * 14)


def test_layers_that_do_not_fit_are_named() -> None:
    network, plain = build("small", 2, pyramid=(1, 3)), build("small", 2)
    assert computed_layers(network, ("pool5", "pool5/3", "fc7"), full=True) == ["fc7", "pool5"]
    assert computed_layers(plain, ("pool5", "features.11"), full=False) == ["features.11", "pool5"]
    with pytest.raises(StageError, match=r"no level 'pool5/6'; the network has a pyramid of \[1, 3\]"):
        computed_layers(network, ("pool5/6",), full=True)
    with pytest.raises(StageError, match="no level 'pool5/6'; the network has no pyramid"):
        computed_layers(plain, ("pool5/6",), full=False)
    with pytest.raises(StageError, match=r"features\.11 does not come after pool5, so its length"):
        computed_layers(network, ("features.11",), full=True)


def test_rows_have_length_one_as_scikit_learns() -> None:
    rows = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    rows[2] = 0
    np.testing.assert_allclose(normalised(rows.copy()), normalize(rows), rtol=1e-6)


def made_up(n: int = 90, d: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Rows that lean towards their class, and are often beyond it: [n, d] and class [n]."""
    rng = np.random.default_rng(4)
    own = np.arange(n) % 3
    rows = rng.normal(size=(n, d)) + 0.9 * np.eye(3, d)[own]
    return normalize(rows).astype(np.float32), own


def test_the_svm_is_the_one_of_libsvm() -> None:
    features, own = made_up()
    # LinearSVC's bias is the weight of a constant feature 1; another solver of that same problem is libsvm's
    with_one = np.hstack([features, np.ones((len(features), 1))]).astype(np.float64)
    truth = np.where(own == 0, 1, -1)
    other = SVC(kernel="linear", C=1.0, tol=1e-8).fit(with_one, truth)
    mine = fit(features, truth, 1.0, 0, Messages())
    w = np.append(mine.coef_, mine.intercept_)

    def objective(weights: np.ndarray) -> float:
        return float(weights @ weights / 2 + np.maximum(0, 1 - truth * (with_one @ weights)).sum())

    # libsvm has a free bias besides: it can only be better
    free = float(other.coef_[0] @ other.coef_[0] / 2)
    free += float(np.maximum(0, 1 - truth * other.decision_function(with_one)).sum())
    assert free - 1e-6 <= objective(w) <= objective(w * 1.001) and objective(w) <= objective(w * 0.999)
    rng = np.random.default_rng(0)
    nearby = [objective(w + rng.normal(scale=s, size=w.shape)) for s in (1e-2, 1e-1) for _ in range(50)]
    assert objective(w) <= min(nearby) + 1e-3


def test_voc_protocol_is_the_area_under_scikit_learns_curve() -> None:
    features, own = made_up()
    labels = np.where(own[:, None] == np.arange(3), 1, -1).astype(np.int8)
    labels[::7, 1] = 0
    train = np.arange(90) < 50
    found = voc(features, labels, train, NAMES, 1.0, 0, Messages())
    for k, name in enumerate(NAMES):
        use, test = (side & (labels[:, k] != 0) for side in (train, ~train))
        svm = fit(features[use], labels[use, k], 1.0, 0, Messages())
        scores, truth = svm.decision_function(features[test]), labels[test, k] > 0
        precision, recall, _ = precision_recall_curve(truth, scores, drop_intermediate=False)
        envelope = np.maximum.accumulate(precision)  # from high recall to low
        assert found["AP_area"][name] == pytest.approx(-100 * float(np.diff(recall) @ envelope[:-1]), abs=1e-9)
        real = slice(0, -1)  # scikit-learn adds a point of precision 1 at recall 0
        eleven = np.mean([precision[real][recall[real] >= t / 10 - 1e-12].max() for t in range(11)])
        assert found["AP_11_point"][name] == pytest.approx(100 * eleven)
        # scikit-learn's own has no envelope, so it can only be lower
        assert 0 <= found["AP_area"][name] - 100 * average_precision_score(truth, scores) < 10
    assert found["mAP_area"] == pytest.approx(np.mean(list(found["AP_area"].values())))
    assert found["mAP_11_point"] == pytest.approx(np.mean(list(found["AP_11_point"].values())))


def test_labels_of_difficult_objects_alone_take_no_part() -> None:
    features, own = made_up()
    labels = np.where(own[:, None] == np.arange(3), 1, -1).astype(np.int8)
    train = np.arange(90) < 50
    labels[[3, 60], 0] = 0
    before = voc(features, labels, train, NAMES, 1.0, 0, Messages())
    features[[3, 60]] = -features[[3, 60]]
    after = voc(features, labels, train, NAMES, 1.0, 0, Messages())
    assert after["AP_area"]["ant"] == before["AP_area"]["ant"]
    assert after["AP_area"]["bee"] != before["AP_area"]["bee"]


def test_a_class_without_examples_is_in_no_mean() -> None:
    features, own = made_up()
    labels = np.where(own[:, None] == np.arange(3), 1, -1).astype(np.int8)
    train = np.arange(90) < 50
    labels[~train, 2] = -1
    found = voc(features, labels, train, NAMES, 1.0, 0, Messages())
    assert found["AP_area"]["cow"] is None
    assert found["mAP_area"] == pytest.approx((found["AP_area"]["ant"] + found["AP_area"]["bee"]) / 2)


def test_an_svm_that_does_not_converge_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Messages()
    fit(*made_up(), 1.0, 0, log)
    assert log.warnings == []
    monkeypatch.setattr(protocols, "_MOST_ITERATIONS", 1)
    fit(*made_up(), 1.0, 0, log)
    assert log.warnings == ["an SVM was stopped after 1 iterations; lower classify_svm.C"]


def test_a_class_that_is_not_among_those_to_learn_from_is_in_no_mean() -> None:
    features, own = made_up()
    labels = np.where(own[:, None] == np.arange(3), 1, -1).astype(np.int8)
    train = np.arange(90) < 50
    labels[train, 2] = -1
    found = voc(features, labels, train, NAMES, 1.0, 0, Messages())
    assert found["AP_11_point"]["cow"] is None
    assert found["mAP_11_point"] == pytest.approx((found["AP_11_point"]["ant"] + found["AP_11_point"]["bee"]) / 2)


def test_splits_have_so_many_of_each_class_and_no_picture_twice() -> None:
    own = np.repeat([0, 1, 2], [9, 30, 14])
    train, test = draw_split(own, NAMES, 8, 10, np.random.default_rng(0))
    assert [np.bincount(own[rows]).tolist() for rows in (train, test)] == [[8, 8, 8], [1, 10, 6]]
    assert len(set(train) | set(test)) == len(train) + len(test)
    other, _ = draw_split(own, NAMES, 8, 10, np.random.default_rng(1))
    assert set(train) != set(other)
    with pytest.raises(StageError, match="class 'ant' has 9 pictures, which leaves none to test after"):
        draw_split(own, NAMES, 9, 10, np.random.default_rng(0))
    with pytest.raises(StageError, match="splits needs two classes or more, there is only 'ant'"):
        draw_split(own[:9], NAMES[:1], 2, 2, np.random.default_rng(0))


def test_accuracy_over_splits_by_hand() -> None:
    features, own = made_up()
    drawn = [draw_split(own, NAMES, 15, n, np.random.default_rng(n)) for n in (4, 9, 50)]
    drawn[0] = drawn[0][0], drawn[0][1][:9]  # classes of different counts: their accuracies count alike
    found = splits(features, own, drawn, 1.0, 0, Messages())
    expected = []
    for train, test in drawn:
        ones = [fit(features[train], np.where(own[train] == k, 1, -1), 1.0, 0, Messages()) for k in range(3)]
        scores = np.stack([svm.decision_function(features[test]) for svm in ones])  # the largest wins
        right = [[s == k for s, label in zip(scores.argmax(0), own[test], strict=True) if label == k] for k in range(3)]
        expected.append(np.mean([100 * sum(rows) / len(rows) for rows in right]))
    assert found["accuracies"] == pytest.approx(expected)
    assert found["accuracy"] == pytest.approx(sum(expected) / 3)
    assert found["deviation"] == pytest.approx(np.sqrt(sum((e - sum(expected) / 3) ** 2 for e in expected) / 2))
    assert splits(features, own, drawn[:1], 1.0, 0, Messages())["deviation"] is None


class World(StageContext):
    """Class folders and weights."""

    def __init__(self, root: Path, pyramid: tuple[int, ...] | None = (3, 1), **settings: Any) -> None:
        super().__init__(root, "classify_svm", {"classify_svm": ClassifySvmSettings(**settings)}, seed=5)
        rng = np.random.default_rng(1)
        for i in range(24):
            file = root / "pictures" / ("test" if i < 9 else "train") / NAMES[i % 3] / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (40 + i, 60 - i, 3)) // 2
            pixels[..., i % 3] += 5  # its class is its colour, more or less
            Image.fromarray(pixels.astype(np.uint8)).save(file)
        made = import_dataset("folders", root / "pictures", "toy", ReadOptions(), root / "artifacts")
        self._dataset, self.image = made.dataset, ImageSource(made.source.root).read
        network = build("small", 7, pyramid=pyramid, generator=torch.Generator().manual_seed(3)).eval()
        save_weights(self.place("weights"), network)

    def report(self) -> Any:
        torch.set_num_threads(1)
        self.run()
        return json.loads(self.output("report").read_text())


def test_the_stage_judges_each_layer_of_full_pictures(tmp_path: Path) -> None:
    world = World(tmp_path, layers=("pool5/3", "pool5", "fc7"))
    report = world.report()
    assert (report["view"], report["short_side_px"], report["pictures"]) == ("full", 64, 24)
    for layer in ("pool5/3", "pool5", "fc7"):
        assert set(report[layer]["AP_area"]) == set(NAMES)
        assert 0 < report[layer]["mAP_11_point"] <= 100
    objects = [world.store.get("classify_svm", key).arrays for _, key in world.listed().entries]
    level = normalised(np.stack([arrays["pool5"][0, : 64 * 9] for arrays in objects]))  # the first level, 3 x 3
    records = world.dataset().images
    own = picture_labels(records, 3), np.array([r.split == "train" for r in records])
    assert report["pool5/3"] == voc(level, *own, NAMES, 1.0, world.seed, Messages())
    assert report["pool5/3"] != report["pool5"] != report["fc7"]
    stored = world.store.get("classify_svm", world.listed().entries[0][1]).arrays
    assert {name: array.shape for name, array in stored.items()} == {"pool5": (1, 640), "fc7": (1, 512)}
    world.change(classify_svm=ClassifySvmSettings(layers=("pool5/1", "pool5", "fc7"), C=2.0))
    world.report()
    assert len(world.computed) == 24  # another level or C is no other feature


def test_the_stage_judges_over_splits_by_the_seed(tmp_path: Path) -> None:
    world = World(tmp_path, layers=("fc7",), protocol="splits", n_splits=4, train_per_class=3, test_per_class=3)
    report = world.report()
    assert len(report["fc7"]["accuracies"]) == 4
    hits = 9 * np.array(report["fc7"]["accuracies"]) / 100  # of three classes with three pictures each
    np.testing.assert_allclose(hits, hits.round(), atol=1e-9)
    assert world.output("report").read_text() == json.dumps(world.report(), indent=1) + "\n"
    world.change(seed=6)
    assert world.report()["fc7"]["accuracies"] != report["fc7"]["accuracies"]


@pytest.mark.parametrize("protocol", ["voc", "splits"])
def test_the_svms_take_rows_of_length_one_and_the_c_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    judge, lengths, margins = getattr(protocols, protocol), [], []

    def judged(features: np.ndarray, *others: Any) -> Any:
        lengths.append(np.linalg.norm(features, axis=1))
        margins.append(others[-3])  # C, seed, log
        return judge(features, *others)

    monkeypatch.setattr(f"stages.classification.classify_svm_stage.{protocol}", judged)
    World(tmp_path, layers=("pool5", "fc7"), protocol=protocol, C=0.5, n_splits=1, train_per_class=3).report()
    np.testing.assert_allclose(lengths, np.ones((2, 24)), rtol=1e-6)
    assert margins == [0.5, 0.5]


def test_crops_of_a_network_without_a_pyramid_may_be_of_conv_layers(tmp_path: Path) -> None:
    report = World(tmp_path, None, layers=("features.11", "fc6"), short_side_px=70).report()
    assert (report["view"], report["short_side_px"]) == ("crop", 70)
    assert report["features.11"]["mAP_area"] > 0


def test_pictures_of_a_detection_dataset_show_their_objects(tmp_path: Path) -> None:
    world = World(tmp_path, layers=("fc7",))
    expected = world.report()["fc7"]
    box = as_boxes([[0, 0, 5, 5]])
    boxed = [
        ImageRecord(r.id, r.file_name, r.width, r.height, r.sha256, r.split, box, as_labels([r.category or 0]))
        for r in world._dataset.images
    ]
    world._dataset = Dataset("toy", NAMES, tuple(boxed))
    assert world.report()["fc7"] == expected
    world.change(classify_svm=ClassifySvmSettings(protocol="splits"))
    with pytest.raises(StageError, match=r"splits needs one class per picture, toy has boxes; set it to voc"):
        world.report()
