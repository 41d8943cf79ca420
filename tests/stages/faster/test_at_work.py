"""Proposals and detections of one map against torchvision's operations put together by hand on the same tensors."""

from typing import Any

import numpy as np
import pytest
import torch
from network_parts import trunk_of
from region_networks import CLASSES, LONG_PX, SHORT_PX, SIZES, pixels, region_network
from torchvision.ops import clip_boxes_to_image, nms, remove_small_boxes, roi_align, roi_pool

from stages.fast.images import scaled_size
from stages.fast.pooling import PoolingKind
from stages.fast.settings import RoiDetectSettings
from stages.faster.maps import MapPass, as_input, described
from stages.faster.network import RegionNetwork
from stages.faster.proposer import Proposer
from stages.faster.roi_detect_stage import _key_params as key_params
from stages.faster.scorer import RoiScorer
from stages.faster.search import RpnSearch, SharedSearch
from stages.faster.settings import MapsSettings
from stages.rpn.settings import ProposeSettings

WIDTH, HEIGHT = SIZES[0]
SIZE = scaled_size(WIDTH, HEIGHT, SHORT_PX, LONG_PX)
MAPS = MapsSettings(short_px=SHORT_PX, long_px=LONG_PX)
PROPOSE = ProposeSettings(before_nms=400, after_nms=40, min_side_px=4)
DETECT = RoiDetectSettings()
SCALES = torch.tensor([SIZE.scale_x, SIZE.scale_y] * 2)


def decoded(boxes: torch.Tensor, moves: torch.Tensor) -> torch.Tensor:
    """Move boxes [n, 4] by tx, ty, tw, th, as the paper writes it."""
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 + moves[:, :2] * sides
    half = sides * moves[:, 2:].clamp(max=float(np.log(1000 / 16))).exp() / 2
    return torch.cat([centres - half, centres + half], 1)


@pytest.fixture(scope="module")
def network() -> RegionNetwork:
    made = region_network()
    made.network.eval()
    return made


def map_of(network: RegionNetwork) -> torch.Tensor:
    return MapPass(network, MAPS, "cpu")(pixels(0), "image")


def proposed(network: RegionNetwork, fmap: torch.Tensor, settings: ProposeSettings) -> tuple[torch.Tensor, Any]:
    """Proposals in px of the original, by torchvision; and their scores."""
    assert network.rpn is not None and network.rpn_shape is not None
    with torch.inference_mode():
        logits, deltas = network.rpn(as_input(fmap))
    scores = logits[0, :, 1] - logits[0, :, 0]
    y, x = fmap.shape[1:3]
    places = network.places
    at_x, at_y = places.x0 + places.stride_x * np.arange(x), places.y0 + places.stride_y * np.arange(y)
    shapes = network.rpn_shape.anchors.shapes()
    corners = [np.array([cx, cy, cx, cy]) + shape for cy in at_y for cx in at_x for shape in shapes]
    anchors = torch.from_numpy(np.stack(corners))
    boxes = clip_boxes_to_image(decoded(anchors, deltas[0].double()), (SIZE.height, SIZE.width))
    large = remove_small_boxes(boxes, settings.min_side_px * (SIZE.scale_x + SIZE.scale_y) / 2)
    ranked = large[scores[large].argsort(descending=True, stable=True)][: settings.before_nms]
    kept = ranked[nms(boxes[ranked].float(), scores[ranked], settings.nms_iou or 1.0)][: settings.after_nms]
    return boxes[kept] / SCALES, scores[kept]


def test_a_map_is_the_networks_own_rounded(network: RegionNetwork) -> None:
    image = torch.from_numpy(pixels(0)).permute(2, 0, 1)[None].float() / 255
    resized = torch.nn.functional.interpolate(image, (SIZE.height, SIZE.width), mode="bilinear", align_corners=False)
    by_hand = trunk_of(network.network).features[:12]((resized - 0.5) / 0.25)[0].permute(1, 2, 0).detach()
    found = map_of(network)[0]
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), by_hand, rtol=0.03, atol=0.03)


def test_the_networks_arithmetic_counts_and_is_part_of_the_key(network: RegionNetwork) -> None:
    """``network.dtype``: trunk, RPN and head compute in it, to what bfloat16's 8 bits leave of float32's result."""
    exact, rough = (MapPass(network, MAPS, "cpu", dtype)(pixels(0), "image") for dtype in ("float32", "bfloat16"))
    assert not torch.equal(exact, rough)
    torch.testing.assert_close(rough.float(), exact.float(), rtol=0.1, atol=0.1)
    assert {described(network, MAPS, dtype)["arithmetic"] for dtype in ("float32", "bfloat16")} == {
        "float32",
        "bfloat16",
    }
    regions = np.array([[2, 3, 40, 30], [10, 8, 50, 44]], np.float32)
    for one in (Proposer(network, PROPOSE, 0, "cpu", "bfloat16"), Proposer(network, PROPOSE, 0, "cpu")):
        assert len(one(exact, SIZE, "0" * 64, training=False).boxes) > 10
    settings = DETECT.model_copy(update={"score_floor": 0.0})
    scores = [
        np.sort(RoiScorer(network, settings, "cpu", dtype).candidates(exact, SIZE, regions, WIDTH, HEIGHT).scores)
        for dtype in ("float32", "bfloat16")
    ]
    assert not np.array_equal(scores[0], scores[1])
    np.testing.assert_allclose(scores[0], scores[1], atol=0.02)


def test_proposals_are_torchvisions(network: RegionNetwork) -> None:
    fmap = map_of(network)
    found = Proposer(network, PROPOSE, 0, "cpu")(fmap, SIZE, "0" * 64, training=False)
    boxes, scores = proposed(network, fmap, PROPOSE)
    assert 10 < len(found.boxes) == len(boxes) <= 40
    np.testing.assert_allclose(found.boxes, boxes.numpy(), atol=1e-3)
    np.testing.assert_allclose(found.scores, scores.numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", ["max", "align"])
def test_detections_are_torchvisions(kind: PoolingKind) -> None:
    network = region_network(pooled_by=(kind, "authors"))
    network.network.eval()
    assert network.fast is not None and network.norm is not None
    network.fast.eval()
    fmap = map_of(network)
    regions = proposed(network, fmap, PROPOSE)[0].float()
    found = RoiScorer(network, DETECT, "cpu")(fmap, SIZE, regions.numpy(), WIDTH, HEIGHT).bbox

    grid, stride = network.grid, network.geometry.x.stride
    if kind == "max":
        ends = ((regions - torch.tensor([0, 0, 1, 1])) * SCALES).float()
        pooled = roi_pool(as_input(fmap), [ends], grid, 1 / stride)
    else:
        pooled = roi_align(as_input(fmap), [(regions * SCALES).float()], grid, 1 / stride, 2, aligned=True)
    with torch.inference_mode():
        logits, moves = network.fast(pooled)
    probabilities = logits.softmax(1)
    wanted = []
    for label in range(CLASSES):
        mean, std = (torch.from_numpy(one[label]) for one in (network.norm.mean, network.norm.std))
        boxes = decoded(regions.double(), moves[:, label].double() * std + mean)
        boxes = clip_boxes_to_image(boxes, (HEIGHT, WIDTH)).float()
        scores = probabilities[:, label + 1]
        above = torch.nonzero(scores > 0.05).flatten()
        kept = above[nms(boxes[above], scores[above], 0.3)]
        wanted += [(label, float(scores[i]), boxes[i].tolist()) for i in kept]
    assert len(wanted) > 2
    assert found.labels.tolist() == [label for label, _, _ in wanted]
    np.testing.assert_allclose(found.scores, [score for _, score, _ in wanted], atol=1e-5)
    np.testing.assert_allclose(found.boxes, [box for _, _, box in wanted], atol=1e-3)


def test_a_new_image_finds_what_its_stored_parts_find(network: RegionNetwork) -> None:
    proposer, scorer = Proposer(network, PROPOSE, 0, "cpu"), RoiScorer(network, DETECT, "cpu")
    search = SharedSearch(MapPass(network, MAPS, "cpu"), proposer, scorer)
    told: list[str] = []
    found = search(pixels(0), "0" * 64, lambda part, done=0, total=0: told.append(part))
    fmap = map_of(network)[0].numpy()
    boxes = proposer(fmap, SIZE, "0" * 64, training=False).boxes
    stored = scorer(fmap, SIZE, boxes, WIDTH, HEIGHT)
    assert len(found.bbox) > 0 and told == ["feature map", "looking for regions", "scoring"]
    np.testing.assert_array_equal(found.bbox.boxes, stored.bbox.boxes)
    np.testing.assert_array_equal(found.bbox.scores, stored.bbox.scores)


REGIONS = np.array([[0, 0, 100, 60], [2, 3, 40, 30], [10, 8, 24, 20], [5, 5, 95, 58], [60, 10, 70, 22]], np.float32)


def test_each_region_is_looked_at_on_the_map_of_its_scale(network: RegionNetwork) -> None:
    """Score as if each scale were the only one, those regions alone that it suits."""
    every = DETECT.model_copy(update={"score_floor": 0.0, "max_per_image": None})
    several = RoiScorer(network, every.model_copy(update={"scales_px": (96, 160, 400)}), "cpu")
    maps = MapPass(network, MAPS, "cpu")
    found = several.candidates_at_scales(maps, pixels(0), REGIONS, "image")
    assert len(found.scores) == CLASSES * len(REGIONS)
    # of the 60 px that are 160 px high there, the whole image has 267 x 160, nearer to 224 x 224 px than 667 x 400
    scale_of = [160, 400, 400, 160, 400]
    one_by_one = []
    for region, scale in zip(REGIONS, scale_of, strict=True):
        alone = MapsSettings(short_px=scale, long_px=2000)
        size = scaled_size(WIDTH, HEIGHT, scale, 2000)
        fmap = MapPass(network, alone, "cpu")(pixels(0), "image")
        one_by_one.append(RoiScorer(network, every, "cpu").candidates(fmap, size, region[None], WIDTH, HEIGHT))
    order = np.lexsort((found.scores, found.labels))
    labels, scores, boxes = (
        np.concatenate([getattr(one, name) for one in one_by_one]) for name in ("labels", "scores", "bbox")
    )
    wanted = np.lexsort((scores, labels))
    np.testing.assert_array_equal(found.labels[order], labels[wanted])
    np.testing.assert_allclose(found.scores[order], scores[wanted], atol=1e-5)
    np.testing.assert_allclose(found.bbox[order], boxes[wanted], atol=1e-3)


def test_one_scale_that_is_that_of_the_maps_changes_nothing(network: RegionNetwork) -> None:
    maps, single = MapPass(network, MAPS, "cpu"), RoiScorer(network, DETECT, "cpu")
    same = DETECT.model_copy(update={"scales_px": (SHORT_PX,), "scales_long_px": LONG_PX})
    found = RoiScorer(network, same, "cpu").candidates_at_scales(maps, pixels(0), REGIONS, "image")
    wanted = single.candidates(map_of(network), SIZE, REGIONS, WIDTH, HEIGHT)
    for name in ("labels", "scores", "bbox"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))


def test_one_map_is_refused_where_regions_are_looked_at_by_scale(network: RegionNetwork) -> None:
    scorer = RoiScorer(network, DETECT.model_copy(update={"scales_px": (SHORT_PX,)}), "cpu")
    for use in (scorer, scorer.candidates):
        with pytest.raises(ValueError, match="scales_px: regions are scored by candidates_at_scales"):
            use(map_of(network), SIZE, REGIONS, WIDTH, HEIGHT)


def test_a_new_image_is_looked_at_on_several_scales(network: RegionNetwork) -> None:
    settings = DETECT.model_copy(update={"scales_px": (96, 200)})
    proposer, scorer = Proposer(network, PROPOSE, 0, "cpu"), RoiScorer(network, settings, "cpu")
    maps = MapPass(network, MAPS, "cpu")
    search = SharedSearch(maps, proposer, scorer)
    found = search(pixels(0), "0" * 64, lambda *_: None)
    boxes = proposer(map_of(network), SIZE, "0" * 64, training=False).boxes
    wanted = scorer.kept(scorer.candidates_at_scales(maps, pixels(0), boxes, "image"))
    assert len(found.bbox) > 0
    np.testing.assert_array_equal(found.bbox.boxes, wanted.bbox.boxes)
    one = SharedSearch(maps, proposer, RoiScorer(network, DETECT, "cpu"))
    assert search.bytes_needed(WIDTH, HEIGHT) > one.bytes_needed(WIDTH, HEIGHT)
    assert not np.array_equal(one(pixels(0), "0" * 64, lambda *_: None).bbox.scores, found.bbox.scores)


def test_an_rpn_of_another_network_proposes_on_its_own_map(network: RegionNetwork) -> None:
    other, scorer, maps = region_network(7), RoiScorer(network, DETECT, "cpu"), MapPass(network, MAPS, "cpu")
    other.network.eval()
    smaller = MapsSettings(short_px=80, long_px=140)
    proposer, its_maps = Proposer(other, PROPOSE, 0, "cpu"), MapPass(other, smaller, "cpu")
    search = SharedSearch(maps, RpnSearch(its_maps, proposer), scorer)
    found = search(pixels(0), "0" * 64, lambda *_: None)
    size = scaled_size(WIDTH, HEIGHT, 80, 140)
    boxes = proposer(its_maps(pixels(0), "image"), size, "0" * 64, training=False).boxes
    wanted = scorer(map_of(network), SIZE, boxes, WIDTH, HEIGHT)
    assert len(found.bbox) > 0
    np.testing.assert_array_equal(found.bbox.boxes, wanted.bbox.boxes)
    assert search.pixels_searched(WIDTH, HEIGHT) == 0


def test_an_image_without_proposals_has_no_detections(network: RegionNetwork) -> None:
    none = PROPOSE.model_copy(update={"min_side_px": 4000.0})
    proposer, scorer = Proposer(network, none, 0, "cpu"), RoiScorer(network, DETECT, "cpu")
    found = SharedSearch(MapPass(network, MAPS, "cpu"), proposer, scorer)(pixels(0), "0" * 64, lambda *_: None)
    for boxes in (found.bbox, found.no_bbox):
        assert len(boxes) == 0 and boxes.boxes.shape == (0, 4)


def test_limits_of_training_images_and_a_random_rank(network: RegionNetwork) -> None:
    fmap = map_of(network)
    settings = PROPOSE.model_copy(update={"after_nms": 5, "train_after_nms": 20})
    counts = [len(Proposer(network, settings, 0, "cpu")(fmap, SIZE, "0" * 64, training=t).boxes) for t in (False, True)]
    assert counts == [5, 20]
    random = settings.model_copy(update={"rank": "random"})
    drawn = [
        Proposer(network, random, s, "cpu")(fmap, SIZE, d * 64, training=True).boxes for s, d in ((0, "0"), (0, "0"))
    ]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    for seed, digest in ((1, "0"), (0, "1")):
        other = Proposer(network, random, seed, "cpu")(fmap, SIZE, digest * 64, training=True).boxes
        assert other.shape != drawn[0].shape or not np.array_equal(other, drawn[0])


def test_keys_name_scales_only_where_there_are_several() -> None:
    """So that every object made before there were any is found."""
    without = key_params(DETECT)
    assert without == {"score_floor": 0.05, "nms_iou": 0.3, "max_per_image": 100, "svd": None, "by_rank": False}
    assert key_params(DETECT.model_copy(update={"scales_long_px": 1000})) == without
    several = [
        DETECT.model_copy(update={"scales_px": scales, "scales_long_px": longest})
        for scales, longest in (((480,), 2000), ((480, 576), 2000), ((480,), 1000))
    ]
    assert len({str(key_params(one)) for one in several}) == 3
