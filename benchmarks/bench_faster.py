"""Faster R-CNN on one made-up photograph of 400 x 300 px, SqueezeNet's trunk, one thread, beside torchvision's.

torchvision's FasterRCNN is built on the same trunk with the same anchors, limits and fully connected layers (1,024):
what differs is RoIAlign where ours pools, unless a row says so. A training step is all of it: pixels to the network's
input, anchors labelled and drawn, forward, backward and the solver's update. The rows about maps compare steps 3 and 4
of the alternating training, which start from stored maps, with steps 1 and 2, which compute the convolutions.
"""

from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import RPNHead

from benchmarks.harness import Figure, main, median_ratio, take_turns
from benchmarks.torchvision_faster import Limits, stock
from manifests import ImageRecord
from stages.fast.rois import TargetNorm
from stages.fast.settings import FastSettings, JointRoiSettings, RoiDetectSettings
from stages.faster.fast_training import RoiTargets, fast_batches, fast_terms, prepare_fast
from stages.faster.images import Inputs, MapInputs, PixelInputs, TrainingImages
from stages.faster.joint_training import JointLoss, joint_batches
from stages.faster.maps import MapPass
from stages.faster.network import RegionNetwork, RpnShape, Shared, cut
from stages.faster.proposer import Proposer
from stages.faster.rpn_training import AnchorTargets, rpn_batches, rpn_terms
from stages.faster.scorer import RoiScorer
from stages.faster.settings import MapsSettings
from stages.faster.training import solver_of
from stages.finetune.batches import ArrayCache
from stages.networks.forward import deterministic
from stages.networks.network import build
from stages.rpn.anchors import Anchors
from stages.rpn.loss import LossRule
from stages.rpn.propose import ProposalRule
from stages.rpn.settings import AnchorSettings, ProposeSettings, RpnSettings
from stages.training.images import ImageSide
from stages.training.loop import TrainingRun

WIDTH, HEIGHT, SHORT_PX, LONG_PX = 400, 300, 300, 500
SCALES, CLASSES, FC, GRID, CHANNELS = (64.0, 128.0, 256.0), 20, 1024, 7, 512
RUN = TrainingRun("bench", 10**6, 10**6, 10**6, 0, train_batch_norm=False, workers=1)
ANCHORS = AnchorSettings(scales_px=SCALES, channels=CHANNELS)
RATE = 1e-5
STEP_REACH, ALIGN_REACH, TEST_REACH, MAPS_REACH = 1.3, 1.0, 1.2, 3.0


def photograph() -> NDArray[np.uint8]:
    """Smooth noise: uint8 [HEIGHT, WIDTH, 3]."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (HEIGHT // 10, WIDTH // 10, 3), np.uint8)
    return coarse.repeat(10, axis=0).repeat(10, axis=1)


def record() -> ImageRecord:
    """An image with four objects."""
    boxes = np.array([[20, 30, 150, 160], [200, 40, 330, 280], [10, 200, 80, 290], [120, 100, 200, 220]], np.float32)
    return ImageRecord(1, "a.jpg", WIDTH, HEIGHT, "0" * 64, "train", boxes, np.arange(4))


def regions() -> RegionNetwork:
    """Our network with new heads."""
    network = build("squeezenet1_0", 1000, generator=torch.Generator().manual_seed(0), pyramid=(GRID,), fc=(FC, FC))
    found = cut(network, None)
    found.add_rpn(RpnShape(Anchors(SCALES, (0.5, 1, 2)), "own", "logistic", CHANNELS), torch.Generator().manual_seed(1))
    found.add_fast(CLASSES, torch.Generator().manual_seed(2))
    return found


def torchvisions(of: RegionNetwork) -> FasterRCNN:
    """torchvision's detector on a trunk of its own of the same form, with our limits."""
    torch.manual_seed(0)
    return stock(
        of,
        Limits(MapsSettings(short_px=SHORT_PX, long_px=LONG_PX), ANCHORS),
        rpn_head=RPNHead(CHANNELS, len(SCALES) * 3),
        box_head=TwoMLPHead(CHANNELS * GRID * GRID, FC),
        box_predictor=FastRCNNPredictor(FC, CLASSES + 1),
    ).to(memory_format=torch.channels_last)


def batch_of(pixels: NDArray[np.uint8], images: TrainingImages, of: RegionNetwork) -> Inputs:
    """Give the network's input of the photograph."""
    return PixelInputs(ArrayCache(lambda _: pixels, 1 << 30), images.sizes, of.network.input)


def stepper(of: RegionNetwork, draw: Callable[[int], Any], loss: Callable[[Any, Any], Any], **parts: bool) -> Any:
    """Return what makes one whole training step of the parts."""
    model = Shared(of, **parts).to(memory_format=torch.channels_last)
    model.train()
    solver = solver_of(model, set(), RpnSettings())
    numbers = iter(range(10**6))

    def step() -> None:
        terms = loss(model, draw(next(numbers)))
        torch.autograd.backward(sum(terms.values()))
        solver.step(RATE)

    return step


def one_image(_: int) -> tuple[ImageSide, ...]:
    """The photograph, whatever the batch."""
    return (ImageSide(0, mirrored=False),)


def joint_figures(pixels: NDArray[np.uint8], images: TrainingImages) -> Iterator[Figure]:
    """The whole network's training step, by either pooling, and its way from pixels to detections."""
    theirs_net = torchvisions(regions())
    theirs_net.train()
    solver = torch.optim.SGD(theirs_net.parameters(), RATE, 0.9, weight_decay=5e-4)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    wanted = [{"boxes": torch.from_numpy(images.records[0].boxes), "labels": torch.arange(4) + 1}]

    def their_step() -> None:
        torch.autograd.backward(sum(theirs_net([tensor], wanted).values()))
        solver.step()
        solver.zero_grad()

    for pooling, reach in (("max", STEP_REACH), ("align", ALIGN_REACH)):
        of = regions()
        settings = JointRoiSettings(pooling=pooling)
        norm = TargetNorm.fixed(CLASSES)
        loss = JointLoss(
            LossRule(), ProposalRule(12_000, 0.7, 2000), settings, norm, prepare_fast(of, settings, norm), "float32"
        )
        targets = AnchorTargets(of, images, ANCHORS)
        draw = joint_batches(targets, images, batch_of(pixels, images, of), one_image, RUN)
        our_step = stepper(of, draw, loss, trunk=True, rpn=True, fast=True)
        theirs, ours = take_turns(their_step, our_step)
        what = "RoI pooling" if pooling == "max" else "RoIAlign"
        yield figure(f"training step, joint, {what}", "torchvision FasterRCNN", theirs, ours, reach)

    theirs_net.eval()
    of = regions()
    of.norm = TargetNorm.fixed(CLASSES)
    maps = MapsSettings(short_px=SHORT_PX, long_px=LONG_PX, storage="float32")
    map_pass = MapPass(of, maps, "cpu")
    proposer, scorer = Proposer(of, ProposeSettings(), 0, "cpu"), RoiScorer(of, RoiDetectSettings(), "cpu")
    size = map_pass.size_of(WIDTH, HEIGHT)

    def our_test() -> None:
        fmap = map_pass(pixels, "a.jpg")
        boxes = proposer(fmap, size, "0" * 64, training=False).boxes
        scorer(fmap, size, boxes, WIDTH, HEIGHT)

    @torch.inference_mode()
    def their_test() -> None:
        theirs_net([tensor])

    theirs, ours = take_turns(their_test, our_test)
    yield figure("test, pixels to detections", "torchvision FasterRCNN", theirs, ours, TEST_REACH)
    yield bare_figure(of, our_test, batch_of(pixels, images, of))


@torch.inference_mode()
def bare_figure(of: RegionNetwork, our_test: Callable[[], None], inputs: Inputs) -> Figure:
    """The way from pixels to detections beside the bare products of trunk and heads on tensors that lie ready."""
    trunk = of.trunk().eval().to(memory_format=torch.channels_last)
    scaled = torch.from_numpy(inputs(ImageSide(0, mirrored=False)))
    assert of.rpn is not None and of.fast is not None
    rpn, fast = of.rpn.eval(), of.fast.eval()
    fmap = trunk(scaled)[of.node]
    pooled = torch.rand(300, CHANNELS, GRID, GRID)

    def bare() -> None:
        trunk(scaled)
        rpn(fmap)
        fast(pooled)

    products, ours = take_turns(bare, our_test)
    return figure("test, pixels to detections", "trunk and heads alone on ready tensors", products, ours, 1 / 1.2)


def maps_figures(pixels: NDArray[np.uint8], images: TrainingImages) -> Iterator[Figure]:
    """Steps from stored maps beside steps that compute the convolutions."""
    of = regions()
    fmap = of.trunk().eval()(torch.from_numpy(batch_of(pixels, images, of)(ImageSide(0, mirrored=False))))[of.node]
    stored = fmap[0].permute(1, 2, 0).detach().numpy().astype(np.float16)
    from_maps = MapInputs(ArrayCache(lambda _: stored, 1 << 30))
    targets = AnchorTargets(of, images, ANCHORS)
    settings = FastSettings()
    norm = TargetNorm.fixed(CLASSES)
    pooling = prepare_fast(of, settings, norm)
    rois = RoiTargets(images, [given_proposals()], settings, CLASSES)
    for what in ("rpn", "fast"):
        steps = []
        for inputs, trunk in ((batch_of(pixels, images, of), True), (from_maps, False)):
            if what == "rpn":
                draw: Callable[[int], Any] = rpn_batches(
                    targets, inputs, lambda _: (ImageSide(0, mirrored=False),), RUN
                )
                loss: Callable[[Any, Any], Any] = rpn_terms(LossRule(), "float32")
            else:
                draw = fast_batches(rois, norm, inputs, lambda number: one_image(number) * 2, RUN)
                loss = fast_terms(pooling, settings)
            steps.append(stepper(of, draw, loss, trunk=trunk, rpn=what == "rpn", fast=what == "fast"))
        whole, from_map = take_turns(*steps)
        yield figure(f"step of {what}_2, from maps", f"step of {what}_1", whole, from_map, MAPS_REACH)


def given_proposals() -> NDArray[np.float32]:
    """2,000 boxes about the objects and elsewhere."""
    rng = np.random.default_rng(1)
    near = record().boxes[rng.integers(0, 4, 500)] + rng.normal(0, 8, (500, 4))
    corner = rng.uniform(0, [WIDTH - 40, HEIGHT - 40], (1500, 2))
    far = np.concatenate([corner, corner + rng.uniform(16, 40, (1500, 2))], axis=1)
    return np.concatenate([near, far]).astype(np.float32)


def figure(what: str, peer: str, theirs: list[float], ours: list[float], reach: float) -> Figure:
    """One row, times in ms."""
    shown = [f"{1000 * median(times):.0f} ms" for times in (ours, theirs)]
    return Figure(
        f"{what}, SqueezeNet, {SHORT_PX} px", shown[0], f"{peer} {shown[1]}", median_ratio(theirs, ours), reach
    )


def figures(device: str) -> Iterator[Figure]:
    """All figures; on a CPU only."""
    pixels = photograph()
    images = TrainingImages([record()], short_px=SHORT_PX, long_px=LONG_PX, difficult=False, mirror=False)
    with deterministic():
        yield from joint_figures(pixels, images)
        yield from maps_figures(pixels, images)


if __name__ == "__main__":
    main(figures)
