"""The proposal step of a Region Proposal Network beside torchvision's, one thread: 20,646 anchors to 300 boxes.

Both are given the same anchors of a 600 x 1000 image, the same logits and the same transforms. torchvision's
``filter_proposals`` takes boxes decoded before, outside the timing; this side decodes what it needs within it.
The outputs are made up in two forms: as a trained network has them, high and agreeing around some objects, and without
any sense, where suppression finds little to do. Beside them, without a peer's aim, the step of training (12,000
to 2,000) and what comes before it: labels and a mini-batch, beside torchvision's matcher and sampler.
"""

from collections.abc import Iterator
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork

from benchmarks import harness
from benchmarks.harness import Figure, median_ratio, take_turns
from stages.boxes.assignment import assign
from stages.boxes.coding import encode
from stages.rpn.propose import ProposalRule, propose
from stages.rpn.targets import LabelRule, draw, label_anchors

WIDTH, HEIGHT = 1000, 600
MAP = 37, 62
OBJECTS = 8
# (before, after) suppression
TEST, TRAINING = (6000, 300), (12000, 2000)


def peer_of(before: int, after: int) -> RegionProposalNetwork:
    """torchvision's RPN without a head, with the paper's anchors."""
    counts = {"training": before, "testing": before}, {"training": after, "testing": after}
    generator = AnchorGenerator(((128, 256, 512),), ((0.5, 1.0, 2.0),))
    return RegionProposalNetwork(generator, nn.Identity(), 0.7, 0.3, 256, 0.5, *counts, 0.7).eval()


def anchors_of(rpn: RegionProposalNetwork) -> Tensor:
    """Its anchors [20,646, 4] on VGG's map."""
    images = ImageList(torch.zeros(1, 3, HEIGHT, WIDTH), [(HEIGHT, WIDTH)])
    anchors: Tensor = rpn.anchor_generator(images, [torch.zeros(1, 8, *MAP)])[0]
    return anchors


def objects_of(rng: np.random.Generator) -> NDArray[np.float32]:
    """Eight objects in the image."""
    sides = rng.uniform(80, 400, (OBJECTS, 2))
    corner = rng.uniform(0, [WIDTH, HEIGHT] - sides)
    return np.concatenate([corner, corner + sides], axis=1).astype(np.float32)


def outputs(anchors: NDArray[np.float32], trained: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits [n] and transforms [n, 4]. A trained network's rise with an anchor's IoU, and point at its object."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=len(anchors)), rng.normal(0, 0.1, (len(anchors), 4))
    if not trained:
        return noise[0].astype(np.float32), noise[1].astype(np.float32)
    objects = objects_of(rng)
    found = assign(anchors, objects)
    near = np.where(found.overlaps > 0.3, 1, 0)[:, None]
    deltas = near * encode(anchors, objects[found.objects]) + noise[1]
    return (12 * found.overlaps - 6 + noise[0]).astype(np.float32), deltas.astype(np.float32)


def step(what: str, counts: tuple[int, int], trained: bool, reach: float | None) -> Figure:
    """One row: the proposal step with so many boxes before and after suppression."""
    rpn = peer_of(*counts)
    anchors = anchors_of(rpn)
    own = anchors.numpy()
    logits, deltas = outputs(own, trained)
    decoded = rpn.box_coder.decode(torch.from_numpy(deltas), [anchors]).view(1, -1, 4)
    scores = torch.from_numpy(logits)[None]
    rule = ProposalRule(*counts[:1], 0.7, counts[1], min_side_px=rpn.min_size)

    def peer() -> Tensor:
        boxes: Tensor = rpn.filter_proposals(decoded, scores, [(HEIGHT, WIDTH)], [len(own)])[0][0]
        return boxes

    def ours() -> NDArray[np.float32]:
        return propose(own, logits, deltas, WIDTH, HEIGHT, rule).boxes

    expected, found = peer().numpy(), ours()
    if expected.shape != found.shape or abs(expected - found).max() > 1e-3:
        raise AssertionError("torchvision proposes other boxes")
    theirs, taken = take_turns(peer, ours, rounds=15)
    return Figure(
        f"proposal step, {len(own):,} anchors, {counts[0]:,} before and {counts[1]:,} after suppression, {what}",
        f"{1000 * median(taken):.2f} ms, decoding included",
        f"torchvision filter_proposals, boxes given decoded: {1000 * median(theirs):.1f} ms",
        median_ratio(theirs, taken),
        reach,
        f"the same {len(found):,} boxes, to {abs(expected - found).max():.0e} px",
    )


def labelling() -> Figure:
    """Labels, a mini-batch of 256 and its transforms, of one image with eight objects."""
    rpn = peer_of(*TEST)
    anchors = anchors_of(rpn)
    own = anchors.numpy()
    objects = objects_of(np.random.default_rng(0))
    target = {"boxes": torch.from_numpy(objects)}
    rng = np.random.default_rng(0)
    rule = LabelRule(border_px=None)

    def peer() -> Tensor:
        labels, matched = rpn.assign_targets_to_anchors([anchors], [target])
        rpn.box_coder.encode(matched, [anchors])
        rpn.fg_bg_sampler(labels)
        first: Tensor = labels[0]
        return first

    def ours() -> NDArray[np.int8]:
        labels = label_anchors(own, objects, WIDTH, HEIGHT, rule)
        draw(own, objects, labels, rng)
        return labels.labels

    same = (peer().numpy() == ours()).mean()
    if same < 0.9999:  # torchvision's IoU is float32's
        raise AssertionError("torchvision labels anchors otherwise")
    theirs, taken = take_turns(peer, ours, rounds=15)
    return Figure(
        f"labels and a mini-batch of {len(own):,} anchors and {OBJECTS} objects",
        f"{1000 * median(taken):.2f} ms",
        f"torchvision's matcher, box coder and sampler: {1000 * median(theirs):.1f} ms",
        median_ratio(theirs, taken),
    )


def figures(device: str) -> Iterator[Figure]:
    """All rows; the device makes no difference."""
    torch.set_num_threads(1)
    yield step("as a trained network has them", TEST, True, 4)
    yield step("without sense", TEST, False, 4)
    yield step("as a trained network has them", TRAINING, True, None)
    yield labelling()


if __name__ == "__main__":
    harness.main(figures)
