"""The features stage through a small context: what it stores, under which keys, and how it is read back."""

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from network_parts import trunk_of
from numpy.typing import NDArray
from stage_context import StageContext

from cache import Artifact, Payload, Recipe, Store
from cache.errors import StageError
from manifests import Dataset, ImageRecord
from stages.boxes.geometry import iou
from stages.contract import Compute, ImageTask
from stages.features.crops import Crop, Extractor
from stages.features.featureset import FeatureSet, mean_norm
from stages.features.objects import narrow, regions_of
from stages.features.settings import FeaturesSettings, SppSettings
from stages.features.spp.extraction import Spp, SppExtractor
from stages.networks.forward import deterministic
from stages.networks.network import Network, build
from stages.networks.settings import NetworkSettings
from stages.networks.weights import load_weights, save_weights

LAYERS = ("pool5", "fc7")
BOXES = ((5, 5, 30, 40), (20, 10, 70, 50), (0, 0, 80, 60))


class World(StageContext):
    """A project folder with a dataset, proposals and weights."""

    def __init__(self, root: Path) -> None:
        groups = {"features": FeaturesSettings(layers=LAYERS, context_px=8), "network": NetworkSettings(batch=4)}
        super().__init__(root, "features", groups)
        self.keys_only = False  # name the objects without computing them
        rng = np.random.default_rng(0)
        self.pixels = {i: rng.integers(0, 256, (60, 80, 3), np.uint8) for i in (1, 2, 3)}
        self.records = [self.record(1), self.record(2, boxes=np.zeros((0, 4)), split="test"), self.record(3)]
        self.proposals = {i: self.put_proposals(i, n) for i, n in ((1, 5), (2, 6), (3, 0))}
        save_weights(self.place("weights"), build("small", 4, generator=torch.Generator().manual_seed(0)))

    def record(self, i: int, split: str = "train", boxes: Any = BOXES, **changes: Any) -> ImageRecord:
        n = len(boxes)
        fields = {
            "id": i,
            "file_name": f"{i}.png",
            "width": 80,
            "height": 60,
            "sha256": f"{i}" * 64,
            "split": split,
            "boxes": np.array(boxes, np.float32).reshape(-1, 4),
            "labels": np.array([2, 0, 1][:n], np.int64),
            "difficult": np.array([False, True, False][:n]),
            "crowd": np.array([False, False, True][:n]),
        }
        return ImageRecord(**{**fields, **changes})

    def put_proposals(self, i: int, n: int, seed: int = 0) -> str:
        rng = np.random.default_rng([i, seed])
        corner = rng.uniform(0, 40, (n, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(6, 20, (n, 2))], 1).astype(np.float32)
        recipe = Recipe("proposals", 1, {}, {"image": i, "seed": seed})
        attrs = {"image": f"{i}.png", "image_sha256": f"{i}" * 64, "box_convention": "", "count": n}
        return self.store.put(recipe, Payload({"boxes": boxes}, attrs, "hdf5"))

    def dataset(self) -> Dataset:
        return Dataset("toy", ("a", "b", "c"), tuple(self.records))

    def artifact(self, name: str) -> Artifact:
        return Artifact(name, 1, {}, {}, tuple(self.proposals.items()), {})

    def image(self, record: ImageRecord) -> NDArray[np.uint8]:
        return self.pixels[record.id]

    def compute_images(self, tasks: Sequence[ImageTask], compute: Compute, *, unit: str = "images") -> list[str]:
        self.keys = [task.recipe.key for task in tasks]
        if self.keys_only:
            return self.keys

        def one(task: ImageTask) -> str:
            if not self.store.has("features", task.recipe.key):
                self.computed.append(task.image.id)
                self.store.put(task.recipe, compute(task))
            return task.recipe.key

        with ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(one, tasks))

    def result(self) -> tuple[FeatureSet, list[int]]:
        """Run the stage; the features, and the ids of the images that had to be computed."""
        self.computed = []
        self.run()
        return FeatureSet(self.store, self.listed()), sorted(self.computed)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_ground_truth_first_then_proposals(world: World) -> None:
    features, computed = world.result()
    assert computed == [1, 2, 3]
    assert features.image_ids == (1, 2, 3)
    assert features.dims == {"fc7": 512, "pool5": 1024}
    first, second, third = features.layer("pool5")
    proposals = world.store.get("proposals", world.proposals[1], ["boxes"]).arrays["boxes"]
    gt = world.records[0].boxes[:2]  # the third is a crowd
    assert np.array_equal(first.boxes, np.concatenate([gt, proposals]))
    assert first.is_gt.tolist() == [True] * 2 + [False] * 5
    assert first.gt_class.tolist() == [2, 0] + [-1] * 5
    assert first.difficult.tolist() == [False, True] + [False] * 5
    expected = np.zeros((7, 3), np.float32)
    expected[:, [2, 0]] = iou(first.boxes, gt)
    expected[2:, 1] = 1  # all proposals lie in the crowd region, which is the whole image
    assert np.array_equal(first.overlaps, expected)
    assert (second.overlaps == 0).all()
    assert second.overlaps.shape == (6, 3)
    assert third.features.shape == (2, 1024)


def test_only_what_lies_in_a_crowd_region_overlaps_with_it(world: World) -> None:
    crowd, single = [0, 0, 40, 60], [50, 0, 60, 10]
    record = world.record(1, boxes=(single, crowd), labels=np.array([0, 0]), crowd=np.array([False, True]))
    # inside; three quarters inside; two thirds inside; on the single object; an IoU with it of a half
    asked = [[0, 0, 10, 10], [10, 0, 50, 10], [10, 0, 55, 10], [50, 0, 60, 10], [50, 0, 60, 20]]
    regions = regions_of(record, np.array(asked), 2)
    np.testing.assert_allclose(regions.overlaps[1:, 0], [1, 0.75, 1 / 10, 1, 0.5], rtol=1e-6)
    assert (regions.overlaps[:, 1] == 0).all()


def test_features_are_the_networks_in_float16(world: World) -> None:
    features, _ = world.result()
    network = load_weights(world.input("weights"))
    for layer in LAYERS:
        image = features.layer(layer)[0]
        with deterministic():
            expected = Extractor(network, [layer], Crop("warp", 8), batch=4)(world.pixels[1], image.boxes)[layer]
        assert image.features.dtype == np.float16
        np.testing.assert_allclose(image.features, expected, rtol=1e-3, atol=1e-4)


def test_the_object_explains_itself_to_plain_zarr(world: World) -> None:
    world.result()
    key = world.listed().keys[1]
    group: Any = zarr.open_group(world.store.describe("features", key)["payload"], mode="r")
    attrs = dict(group.attrs)
    assert group["fc7"].shape == (7, 512)
    assert attrs["image"] == "1.png"
    assert attrs["count"] == 7
    assert attrs["layers"] == {"fc7": 512, "pool5": 1024}
    assert (attrs["crop"], attrs["context_px"], attrs["network"]) == ("warp", 8, "small")
    assert len(attrs["weights_digest"]) == 64


def test_the_same_bytes_for_any_number_of_workers(world: World, tmp_path: Path) -> None:
    world.result()
    again = World(tmp_path / "again")
    again.workers = 3
    again.result()
    assert again.listed() == world.listed()
    for key in world.listed().keys.values():
        files = [s.describe("features", key)["files"] for s in (world.store, again.store)]
        assert files[0] == files[1]


Change = Callable[[World], object]


def changed_network(world: World, change: Callable[[Network], object]) -> None:
    network = load_weights(world.input("weights"))
    with torch.no_grad():
        change(network)
    save_weights(world.input("weights"), network)


def replace_record(world: World, **changes: Any) -> None:
    world.records[0] = dataclasses.replace(world.records[0], **changes)


UNCHANGED: dict[str, Change] = {
    "nothing": lambda w: None,
    "split": lambda w: replace_record(w, split="test", splits=("test",)),
    "file name": lambda w: replace_record(w, file_name="other.png"),
    "truncated": lambda w: replace_record(w, truncated=np.array([True, False, False])),
    "last layer": lambda w: changed_network(w, lambda n: n.new_head(9, torch.Generator().manual_seed(1))),
    "device": lambda w: setattr(w, "device", "cpu"),
    "workers": lambda w: setattr(w, "workers", 1),
    "layer order": lambda w: w.update("features", layers=("fc7", "pool5", "fc7")),
}
ONE_IMAGE: dict[str, Change] = {
    "pixels": lambda w: replace_record(w, sha256="f" * 64),
    "ground truth": lambda w: replace_record(w, boxes=w.records[0].boxes + np.array([[1], [0], [0]], np.float32)),
    "crowd box": lambda w: replace_record(w, boxes=w.records[0].boxes + np.array([[0], [0], [-3]], np.float32)),
    "difficult": lambda w: replace_record(w, difficult=np.array([True, True, False])),
    "label": lambda w: replace_record(w, labels=np.array([1, 0, 1])),
    "proposals": lambda w: w.proposals.update({1: w.put_proposals(1, 5, seed=9)}),
}
ALL_IMAGES: dict[str, Change] = {
    "layers": lambda w: w.update("features", layers=("fc7",)),
    "crop": lambda w: w.update("features", crop="square"),
    "context": lambda w: w.update("features", context_px=4),
    "padding": lambda w: w.update("features", padding="replicate"),
    "storage": lambda w: w.update("features", storage="float32"),
    "batch": lambda w: w.update("network", batch=8),
    "dtype": lambda w: w.update("network", dtype="bfloat16"),
    "grid": lambda w: w.update("network", pool5_grid=2),
    "weights": lambda w: changed_network(w, lambda n: trunk_of(n).features[0].weight.add_(0.01)),
    "mean": lambda w: changed_network(w, lambda n: setattr(n, "input", dataclasses.replace(n.input, mean=(0, 0, 0)))),
}


@pytest.mark.parametrize("change", [*UNCHANGED, *ONE_IMAGE, *ALL_IMAGES])
def test_what_a_change_computes_again(world: World, change: str) -> None:
    world.keys_only = True
    world.result()
    before = world.keys
    {**UNCHANGED, **ONE_IMAGE, **ALL_IMAGES}[change](world)
    world.result()
    computed = [i for i, old, new in zip((1, 2, 3), before, world.keys, strict=True) if old != new]
    expected = [] if change in UNCHANGED else [1] if change in ONE_IMAGE else [1, 2, 3]
    assert computed == expected


def use_spp(world: World, **changes: Any) -> None:
    spp = SppSettings(**{"scales_px": (60, 90), "levels": (4,), "target_side_px": 40, **changes})
    world.update("features", method="spp", spp=spp)


SPP_UNCHANGED: dict[str, Change] = {
    "padding": lambda w: w.update("features", padding="replicate"),
    "crop": lambda w: w.update("features", crop="square"),
    "context": lambda w: w.update("features", context_px=4),
    "batch": lambda w: w.update("network", batch=8),
    "grid": lambda w: w.update("network", pool5_grid=2),
    "input side": lambda w: changed_network(w, lambda n: setattr(n, "input", dataclasses.replace(n.input, side_px=48))),
    "order of the scales": lambda w: use_spp(w, scales_px=(90, 60)),
}
SPP_CHANGED: dict[str, Change] = {
    "scales": lambda w: use_spp(w, scales_px=(60, 91)),
    "target side": lambda w: use_spp(w, target_side_px=41),
    "one scale": lambda w: use_spp(w, scales_px=(60,)),
    "method": lambda w: w.update("features", method="warp"),
    "layers": lambda w: w.update("features", layers=("fc7",)),
    "storage": lambda w: w.update("features", storage="float32"),
    "dtype": lambda w: w.update("network", dtype="bfloat16"),
    "weights": lambda w: changed_network(w, lambda n: trunk_of(n).features[0].weight.add_(0.01)),
    "mean": ALL_IMAGES["mean"],
}


@pytest.mark.parametrize("change", [*SPP_UNCHANGED, *SPP_CHANGED])
def test_what_a_change_computes_again_with_spp(world: World, change: str) -> None:
    world.keys_only = True
    use_spp(world)
    world.result()
    before = world.keys
    {**SPP_UNCHANGED, **SPP_CHANGED}[change](world)
    world.result()
    assert [old != new for old, new in zip(before, world.keys, strict=True)] == [change in SPP_CHANGED] * 3


def test_spp_levels_and_the_target_side_of_one_scale(world: World) -> None:
    world.keys_only = True
    world.update("features", layers=("pool5",))
    keys = []
    for changes in ({}, {"target_side_px": 100}, {"levels": (1, 2)}, {"levels": (2, 1)}, {"pooling": "average"}):
        use_spp(world, scales_px=(60,), **changes)
        world.result()
        keys.append(tuple(world.keys))
    assert keys[0] == keys[1]  # of one scale there is nothing to choose
    assert len(set(keys)) == 4


def test_spp_does_not_enter_the_keys_of_warped_regions(world: World) -> None:
    world.keys_only = True
    world.result()
    before = world.keys
    spp = SppSettings(scales_px=(100, 200), levels=(1, 5), target_side_px=99)
    world.update("features", spp=spp)
    world.result()
    assert world.keys == before
    names = {"layers", "network", "weights_digest", "pool5_grid", "input", "crop", "context_px", "arithmetic", "batch"}
    assert set(world.listed().summary) == names | {"storage", "dataset"}


def test_spp_features_are_the_extractors_in_float16(world: World) -> None:
    use_spp(world)
    features, computed = world.result()
    assert computed == [1, 2, 3]
    assert features.dims == {"fc7": 512, "pool5": 1024}
    extract = SppExtractor(load_weights(world.input("weights")), LAYERS, Spp((60, 90), (4,), 40))
    for layer in LAYERS:
        for image in features.layer(layer):
            with deterministic():
                expected = extract(world.pixels[image.image_id], image.boxes)[layer]
            assert np.array_equal(image.features, expected.astype(np.float16))
    attrs: dict[str, Any] = dict(
        zarr.open_group(world.store.describe("features", world.listed().keys[1])["payload"]).attrs
    )
    assert (attrs["method"], attrs["scales_px"], attrs["levels"], attrs["target_side_px"]) == ("spp", [60, 90], [4], 40)
    assert attrs["feature_order"].startswith("pool5: levels in their order")


def test_spp_layers_that_there_are_not_are_told_before_anything_is_computed(world: World) -> None:
    use_spp(world, levels=(1, 2, 3, 6))
    with pytest.raises(StageError, match=r"fc6 of small takes 1024 values.*set features\.spp\.levels to \[4\]"):
        world.result()
    assert world.computed == []


def test_a_network_with_a_pyramid(world: World) -> None:
    """Cropped and pooled as a whole, or pooled from the whole image: other objects, of equal lengths."""
    world.result()
    save_weights(world.input("weights"), build("small", 4, generator=torch.Generator().manual_seed(0), pyramid=(1, 2)))
    cropped, computed = world.result()
    assert (cropped.dims, computed) == ({"fc7": 512, "pool5": 320}, [1, 2, 3])
    assert world.listed().summary["pyramid"] == [1, 2]
    use_spp(world, levels=(1, 2))
    pooled, computed = world.result()
    assert (pooled.dims, computed) == (cropped.dims, [1, 2, 3])


def test_an_added_image_computes_one(world: World) -> None:
    assert world.result()[1] == [1, 2, 3]
    assert world.result()[1] == []
    world.pixels[4] = world.pixels[1]
    world.records.append(world.record(4))
    world.proposals[4] = world.put_proposals(4, 3)
    assert world.result()[1] == [4]


@pytest.mark.parametrize("read_ahead", [0, 1, 5])
def test_reading_ahead_changes_nothing(world: World, read_ahead: int) -> None:
    features, _ = world.result()
    view = features.layer("fc7", [3, 1], read_ahead=read_ahead)
    assert len(view) == 2
    for _ in range(2):
        assert [image.image_id for image in view] == [3, 1]
        for image, plain in zip(view, features.layer("fc7", [3, 1]), strict=True):
            assert np.array_equal(image.features, plain.features)
            assert np.array_equal(image.boxes, plain.boxes)
    for image in view:  # a reader may stop early
        assert image in view
        break


@pytest.mark.parametrize("read_ahead", [0, 2])
def test_a_view_of_objects_has_the_ground_truth_rows_and_reads_no_others(
    world: World, read_ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = world.result()[0]
    whole = list(features.layer("fc7"))
    read: list[tuple[int, int]] = []
    get_rows = Store.get_rows

    def noting(self: Store, stage: str, key: str, name: str, start: int, stop: int) -> NDArray[Any]:
        read.append((start, stop))
        return get_rows(self, stage, key, name, start, stop)

    monkeypatch.setattr(Store, "get_rows", noting)
    for image, plain in zip(features.layer("fc7", read_ahead=read_ahead).objects(), whole, strict=True):
        rows = plain.is_gt
        assert image.is_gt.all() and image.image_id == plain.image_id
        for name in ("boxes", "gt_class", "difficult", "overlaps", "features"):
            np.testing.assert_array_equal(getattr(image, name), getattr(plain, name)[rows])
    assert sorted(read) == [(0, 0), (0, 2), (0, 2)]  # threads that read ahead come in any order


def test_mean_norm_over_few_regions_is_exact(world: World) -> None:
    features, _ = world.result()
    view = features.layer("fc7")
    rows = np.concatenate([image.features for image in view]).astype(np.float64)
    assert mean_norm(view, 3) == pytest.approx(np.sqrt((rows**2).sum(1)).mean(), rel=1e-12)


def test_mean_norm_is_a_seeded_estimate(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.features.featureset._STATISTICS_IMAGES", 2)
    monkeypatch.setattr("stages.features.featureset._STATISTICS_ROWS", 2)
    view = world.result()[0].layer("fc7")
    assert mean_norm(view, 3) == mean_norm(view, 3)
    assert len({mean_norm(view, seed) for seed in range(6)}) > 1


def test_mean_norms_rows_are_a_run_that_goes_on_with_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.features.featureset._STATISTICS_ROWS", 2)
    norms = 10.0 ** np.arange(5)

    class Image:
        boxes = np.zeros((5, 4), np.float32)

        def rows(self, start: int, stop: int) -> NDArray[np.float64]:
            return np.stack([0.6 * norms, 0.8 * norms], axis=1)[start:stop]

    view: Any = [Image()]
    found = {round(mean_norm(view, seed), 6) for seed in range(60)}  # each of five places is missed by 1 in 10^5
    assert found == {(norms[i] + norms[(i + 1) % 5]) / 2 for i in range(5)}


def test_mean_norm_of_nothing(world: World) -> None:
    features, _ = world.result()
    with pytest.raises(StageError, match="no image has regions"):
        mean_norm(features.layer("fc7", []), 3)


def test_bad_requests_are_named(world: World) -> None:
    features, _ = world.result()
    with pytest.raises(StageError, match=r"'pool4' is not among the stored features.*did you mean 'pool5'"):
        features.layer("pool4")
    with pytest.raises(StageError, match="no features of image id 9"):
        features.layer("pool5", [1, 9])
    world.update("features", layers=("fc9",))
    with pytest.raises(StageError, match="network small has no layer 'fc9'"):
        world.result()
    world.update("features", layers=("boxes",))
    with pytest.raises(StageError, match="name of another array"):
        world.result()
    world.update("features", layers=("fc7",))
    world.update("network", name="alexnet")
    with pytest.raises(StageError, match=r"holds weights of small, network\.name is alexnet"):
        world.result()


def test_an_image_without_proposals_object_is_named(world: World) -> None:
    del world.proposals[2]
    with pytest.raises(StageError, match=r"2\.png: no proposals"):
        world.result()


def test_a_bad_region_names_its_image(world: World) -> None:
    world.records[2] = world.record(3, boxes=((5, 5, 5, 9),), labels=[0], difficult=[False], crowd=[False])
    with pytest.raises(StageError, match=r"3.png: region 0 has no area"):
        world.result()


def test_values_beyond_float16_are_an_error_not_infinite(world: World) -> None:
    changed_network(world, lambda n: trunk_of(n).classifier[1].weight.mul_(1e6))
    world.update("features", layers=("fc7",))
    with pytest.raises(StageError, match=r"\.png: fc7 unit \d+ of region \d+ .*features.storage to float32"):
        world.result()
    world.update("features", storage="float32")
    features, _ = world.result()
    image = features.layer("fc7")[0]
    assert image.features.dtype == np.float32
    assert image.features.max() > 65504


def test_not_a_number_is_an_error_in_any_precision() -> None:
    with pytest.raises(StageError, match=r"a.png: fc7 unit 1 of region 0 is nan, which is not a number"):
        narrow(np.array([[1.0, np.nan]], np.float32), "float32", "fc7", "a.png")
    assert narrow(np.array([[65504.0]], np.float32), "float16", "fc7", "a.png")[0, 0] == 65504


def test_a_view_as_one_dask_array_and_by_slices(world: World) -> None:
    features, _ = world.result()
    view = features.layer("pool5", [3, 1])
    together = np.concatenate([image.features for image in view])
    lazy = view.array()
    assert lazy.chunks == ((len(view[0].boxes), len(view[1].boxes)), (1024,))
    assert lazy.dtype == np.float16
    assert np.array_equal(lazy.compute(), together)
    np.testing.assert_allclose(lazy.astype("f8").mean(axis=0).compute(), together.astype("f8").mean(axis=0))
    assert np.array_equal(view[1].rows(2, 5), view[1].features[2:5])
    assert np.array_equal(view[1].rows(5, 99), view[1].features[5:])
    assert view.counts().tolist() == [2, 7]
    for start, stop in ((0, 9), (1, 2), (1, 4), (2, 9), (5, 100), (-3, 9), (4, 4), (6, 2)):
        assert np.array_equal(view.rows(start, stop), together[start:stop])
    assert view.objects().counts().tolist() == [len(image.boxes) for image in view.objects()]
    with pytest.raises(StageError, match="no image was asked for"):
        features.layer("pool5", []).array()
    with pytest.raises(StageError, match="no image was asked for"):
        features.layer("pool5", []).rows(0, 1)


def test_a_training_image_annotated_in_part_has_its_objects_rows(world: World) -> None:
    before, _ = world.result()
    world.records[0] = replace(world.records[0], exhaustive=False)
    del world.proposals[1]
    features, computed = world.result()
    assert computed == [1]
    first, second, _ = features.layer("pool5")
    assert first.is_gt.tolist() == [True, True]
    assert np.array_equal(first.features, before.layer("pool5")[0].features[:2])
    assert second.features.shape == (6, 1024)
    world.records[1] = replace(world.records[1], exhaustive=False)  # of the test split: its proposals are scored
    assert world.result()[1] == []
