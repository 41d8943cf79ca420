"""Trainings of the shared network: what stays to the last bit, what a kill changes, Caffe's update, the joint loss."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from network_parts import trunk_of
from region_networks import (
    CLASSES,
    LONG_PX,
    SHORT_PX,
    pixel_inputs,
    pixels,
    records,
    region_network,
    training_images,
)
from stage_context import Messages
from torch.nn import functional

from cache.errors import StageError
from stages.boxes.coding import encode
from stages.fast.rois import draw_rois, labelled_rois
from stages.fast.settings import FastSettings, JointRoiSettings
from stages.faster.fast_training import RoiTargets, fast_batches, fast_terms
from stages.faster.images import Inputs, MapInputs
from stages.faster.joint_training import JointLoss, joint_batches
from stages.faster.maps import MapPass, as_input
from stages.faster.network import RegionNetwork, Shared, frozen_parameters
from stages.faster.rpn_training import AnchorTargets, rpn_batches, rpn_terms
from stages.faster.settings import MapsSettings
from stages.faster.training import batches, fit, names_of, solver_of
from stages.finetune.batches import ArrayCache
from stages.rpn.loss import LossRule
from stages.rpn.propose import ProposalRule, propose
from stages.rpn.settings import RpnSettings
from stages.training.checkpoint import Checkpoint
from stages.training.images import ImageSide
from stages.training.loop import TrainingRun, generator
from stages.training.settings import SolverSettings

RPN = RpnSettings(scales_px=(24, 48), iterations=4, lr=0.01, step=2, batch=32)
FAST = FastSettings(iterations=4, lr=0.01, step=2, rois_per_image=8, images_per_batch=1)
PROPOSALS = [np.array([[6, 8, 42, 40], [45, 5, 88, 52], [0, 0, 20, 20], [70, 40, 100, 60]], np.float32)] * 2
PARTS = ("trunk", "fc", "new", "rpn")


def map_inputs(network: RegionNetwork) -> MapInputs:
    """Return the maps of both images and their mirror images, as the stage ``maps`` stores them."""
    computed = MapPass(network, MapsSettings(short_px=SHORT_PX, long_px=LONG_PX), "cpu")

    def read(name: tuple[int, bool]) -> Any:
        image = pixels(name[0])
        return computed(np.ascontiguousarray(image[:, ::-1]) if name[1] else image, "image")[0].numpy()

    return MapInputs(ArrayCache(read, 1 << 22))


def loop(stage: str, checkpoint_every: int = 1000) -> TrainingRun:
    return TrainingRun(stage, 4, 2, checkpoint_every, 5, train_batch_norm=False)


def taught(
    network: RegionNetwork, what: str, folder: Path, *, maps: bool, frozen: str = "none", log: Messages | None = None
) -> None:
    """Train one head, and the trunk unless from maps."""
    images = training_images()
    inputs: Inputs = map_inputs(network) if maps else pixel_inputs(network, images)
    run = loop(what, 1)
    settings: SolverSettings = RPN if what == "rpn" else FAST
    name = batches(images, images.entries, 1, run)
    model = Shared(network, trunk=not maps, rpn=what == "rpn", fast=what == "fast")
    draw: Any
    loss: Any
    if what == "rpn":
        draw = rpn_batches(AnchorTargets(network, images, RPN), inputs, name, run)
        loss = rpn_terms(LossRule(), "float32")
    else:
        targets = RoiTargets(images, PROPOSALS, FAST, CLASSES)
        norm = targets.norm()
        draw, loss = fast_batches(targets, norm, inputs, name, run), fast_terms(network.pooling, FAST)
    fit(
        model,
        settings,
        frozen=set() if maps else frozen_parameters(network.network, network.layer, frozen),
        draw=draw,
        loss=loss,
        images_of=names_of(images, name),
        run=run,
        checkpoint=Checkpoint(folder, {"of": what}),
        log=log or Messages(),
    )


def test_a_loss_that_is_no_number_names_the_images(tmp_path: Path) -> None:
    network = region_network()
    assert network.rpn is not None
    torch.nn.init.constant_(network.rpn.box.bias, float("nan"))
    with pytest.raises(StageError, match=r"rpn: the loss's rpn_box became nan at iteration 1 .* on \S+\.png.*; lower"):
        taught(network, "rpn", tmp_path, maps=False)


def parts_of(network: RegionNetwork) -> dict[str, dict[str, torch.Tensor]]:
    """Copy every tensor, by the part that it is of."""
    assert network.rpn is not None and network.fast is not None
    state = {name: tensor.clone() for name, tensor in network.network.trunk.state_dict().items()}
    new = {"cls_score": network.fast.cls_score, "bbox_pred": network.fast.bbox_pred}
    return {
        "trunk": {name: tensor for name, tensor in state.items() if name.startswith("features")},
        "fc": {name: tensor for name, tensor in state.items() if name.startswith("classifier")},
        "new": {f"{a}.{b}": t.clone() for a, layer in new.items() for b, t in layer.state_dict().items()},
        "rpn": {name: tensor.clone() for name, tensor in network.rpn.state_dict().items()},
    }


def moved(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Name the parts of which any bit is another."""
    assert before.keys() == after.keys()
    return {part for part in before if any(not torch.equal(t, after[part][n]) for n, t in before[part].items())}


@pytest.mark.parametrize(
    ("what", "maps", "changed"),
    [
        ("rpn", True, {"rpn"}),  # rpn_2
        ("fast", True, {"fc", "new"}),  # fast_2
        ("rpn", False, {"trunk", "rpn"}),  # rpn_1
        ("fast", False, {"trunk", "fc", "new"}),  # fast_1
    ],
)
def test_what_a_training_does_not_train_keeps_its_bits(
    what: str, maps: bool, changed: set[str], tmp_path: Path
) -> None:
    network = region_network()
    before = parts_of(network)
    taught(network, what, tmp_path, maps=maps)
    assert moved(before, parts_of(network)) == changed


def test_layers_up_to_the_frozen_node_keep_their_bits(tmp_path: Path) -> None:
    network = region_network()
    before = parts_of(network)["trunk"]
    taught(network, "rpn", tmp_path, maps=False, frozen="features.5")
    after = parts_of(network)["trunk"]
    others = {name for name in before if not torch.equal(before[name], after[name])}
    assert others and all(int(name.split(".")[1]) > 5 for name in others)


@pytest.mark.parametrize("what", ["rpn", "fast"])
def test_a_stopped_training_ends_with_the_same_bits(what: str, tmp_path: Path) -> None:
    straight, stopped, resumed = region_network(), region_network(), region_network()
    taught(straight, what, tmp_path / "straight", maps=True)
    with pytest.raises(InterruptedError):
        taught(stopped, what, tmp_path / "stopped", maps=True, log=Messages(stop_at=2))
    log = Messages()
    taught(resumed, what, tmp_path / "stopped", maps=True, log=log)
    assert log.seen == [3, 4]
    assert moved(parts_of(straight), parts_of(resumed)) == set()
    assert moved(parts_of(straight), parts_of(stopped)) != set()


def test_caffes_update_by_hand() -> None:
    """Two steps of rates .1 and .01: weights x1, biases x2, both decayed by .5; momentum .9."""
    network = region_network()
    assert network.rpn is not None
    model = Shared(network, trunk=False, rpn=True, fast=False)
    solver = solver_of(model, set(), RPN.model_copy(update={"momentum": 0.9, "weight_decay": 0.5}))
    weight, bias = network.rpn.score.weight, network.rpn.score.bias
    with torch.no_grad():
        weight.fill_(2.0)
        bias.fill_(4.0)
    for rate in (0.1, 0.01):
        weight.grad, bias.grad = torch.full_like(weight, 3.0), torch.full_like(bias, 1.0)
        solver.step(rate)
    # weight: v = .1 (3 + 1) = .4, w = 1.6; v = .9 .4 + .01 (3 + .8) = .398, w = 1.202
    # bias:   v = .2 (1 + 2) = .6, b = 3.4; v = .9 .6 + .02 (1 + 1.7) = .594, b = 2.806
    torch.testing.assert_close(weight, torch.full_like(weight, 1.202))
    torch.testing.assert_close(bias, torch.full_like(bias, 2.806))


def test_the_joint_losss_four_terms_are_those_of_the_two_computed_apart() -> None:
    """RPN: means over the anchors drawn. Fast R-CNN: of regions drawn from the proposals of the RPN as it is."""
    network, images = region_network(), training_images()
    network.network.eval()  # no dropout
    assert network.rpn is not None and network.fast is not None and network.norm is not None
    network.fast.eval()
    run, rois = loop("joint"), JointRoiSettings(rois_per_image=16)
    targets = AnchorTargets(network, images, RPN)
    inputs, entry = pixel_inputs(network, images), ImageSide(0, mirrored=True)
    (batch, again) = (joint_batches(targets, images, inputs, lambda _: (entry,), run)(7) for _ in range(2))
    keep = ProposalRule(200, 0.7, 60, 4.0)
    model = Shared(network, trunk=True, rpn=True, fast=True)
    terms = JointLoss(LossRule(), keep, rois, network.norm, network.pooling, "float32")(model, batch)
    assert list(terms) == ["rpn_cls", "rpn_box", "cls", "box"]

    fmap = trunk_of(network.network).features[:12](torch.from_numpy(inputs(entry)))
    logits, deltas = (one[0] for one in network.rpn(fmap))
    sample, size = again.rpn.sample, images.sizes[0]
    drawn = torch.from_numpy(sample.rows)
    wanted = (torch.arange(len(drawn)) < sample.n_positive).long()
    assert 0 < sample.n_positive < len(drawn) == 32
    torch.testing.assert_close(terms["rpn_cls"], functional.cross_entropy(logits[drawn], wanted))
    box = functional.smooth_l1_loss(
        deltas[drawn[: sample.n_positive]], torch.from_numpy(sample.transforms), reduction="sum", beta=1 / 9
    )
    torch.testing.assert_close(terms["rpn_box"], box / 32)

    margin, moves = (logits[:, 1] - logits[:, 0]).detach().numpy(), deltas.detach().numpy()
    scale = (size.scale_x + size.scale_y) / 2
    made = propose(targets.grid(0), margin, moves, size.width, size.height, keep, scale=scale)
    boxes = made.boxes / np.array([size.scale_x, size.scale_y] * 2, np.float32)
    truth = images.objects(entry)
    labelled = labelled_rois(truth.boxes, truth.labels, np.zeros(2, bool), boxes.astype(np.float32))
    own = labelled.take(draw_rois(labelled, rois_per_image=16, rng=generator(5, "joint", "regions", 7)))
    assert 0 < (own.labels > 0).sum() < len(own.labels)
    answers, moved_by = network.fast(network.pooling(fmap, own.boxes, (size.scale_x, size.scale_y)))
    labels = torch.from_numpy(own.labels)
    torch.testing.assert_close(terms["cls"], functional.cross_entropy(answers, labels), rtol=1e-5, atol=1e-5)
    total = 0.0
    for row in np.flatnonzero(own.labels > 0):
        of = own.labels[row] - 1
        goal = (encode(own.boxes[[row]], own.objects[[row]])[0] - network.norm.mean[of]) / network.norm.std[of]
        error = np.abs(moved_by[row, of].detach().numpy() - goal)
        total += np.where(error < 1, 0.5 * error**2, error - 0.5).sum()
    assert terms["box"].item() == pytest.approx(total / len(own.labels), rel=1e-5)


def test_fast_sigma_reaches_the_loss_of_both_trainings() -> None:
    """And a network of the paper's sigma keeps the key that it had before there was another."""
    network, images = region_network(), training_images()
    network.network.eval()
    assert network.fast is not None and network.norm is not None
    network.fast.eval()
    targets, run = RoiTargets(images, PROPOSALS, FAST, CLASSES), loop("fast")
    inputs, name = pixel_inputs(network, images), batches(images, images.entries, 1, run)
    model = Shared(network, trunk=True, rpn=False, fast=True)
    (one,) = fast_batches(targets, network.norm, inputs, name, run)(0)
    size = one.scale
    labels = torch.from_numpy(one.labels)
    _, moved = network.fast(network.pooling(model.map_of(torch.from_numpy(one.inputs)), one.rois, size))
    rows = torch.nonzero(labels > 0).flatten()
    assert len(rows)
    for sigma in (1.0, 3.0):
        settings = FAST.model_copy(update={"sigma": sigma})
        wanted = functional.smooth_l1_loss(
            moved[rows, labels[rows] - 1], torch.from_numpy(one.targets)[rows], reduction="sum", beta=1 / sigma**2
        )
        torch.testing.assert_close(fast_terms(network.pooling, settings)(model, [one])["box"], wanted / len(labels))

    assert "sigma" not in FAST.identity() and "sigma" not in JointRoiSettings().identity()
    assert FAST.model_copy(update={"sigma": 3.0}).identity()["sigma"] == 3
    assert JointRoiSettings(sigma=3).identity()["sigma"] == 3


def test_no_gradient_passes_through_the_proposals_boxes() -> None:
    """The RPN's layers get none of the detector's two terms; the trunk does."""
    network, images = region_network(), training_images()
    assert network.rpn is not None and network.norm is not None
    targets = AnchorTargets(network, images, RPN)
    inputs = pixel_inputs(network, images)
    batch = joint_batches(targets, images, inputs, lambda _: (ImageSide(0, False),), loop("joint"))(0)
    model = Shared(network, trunk=True, rpn=True, fast=True)
    keep = ProposalRule(200, 0.7, 60, 4.0)
    loss = JointLoss(LossRule(), keep, JointRoiSettings(), network.norm, network.pooling, "float32")
    terms = loss(model, batch)
    (terms["cls"] + terms["box"]).backward()
    assert all(parameter.grad is None for parameter in network.rpn.parameters())
    assert all(parameter.grad is not None for parameter in network.trunk().parameters())


def test_stored_maps_train_as_the_pixels_do() -> None:
    """The first loss of rpn_2 from maps is that of the pixels, but for float16's rounding."""
    network, images = region_network(), training_images()
    network.network.eval()
    targets, run = AnchorTargets(network, images, RPN), loop("rpn")
    name = batches(images, images.entries, 1, run)
    found = []
    for maps in (False, True):
        inputs: Inputs = map_inputs(network) if maps else pixel_inputs(network, images)
        batch = rpn_batches(targets, inputs, name, run)(0)
        model = Shared(copy.copy(network), trunk=not maps, rpn=True, fast=False)
        found.append(rpn_terms(LossRule(), "float32")(model, batch))
    for term in ("rpn_cls", "rpn_box"):
        torch.testing.assert_close(found[0][term], found[1][term], rtol=2e-3, atol=1e-4)
    assert len(records()) == 2 and as_input(np.zeros((2, 3, 4), np.float16)).shape == (1, 4, 2, 3)
