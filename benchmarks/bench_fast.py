"""Fast R-CNN's parts on 300 RoIs of one map of a 600 x 1000 image: 38 x 63 cells of 512 channels, one thread.

RoI pooling beside torchvision's, whose values and gradients are the same to the bit, each side given the map in the
memory order that suits it. The head at test time, from the map to detections, beside its bare matrix products on pooled
vectors that lie ready: what pooling, softmax, decoding and suppression add. Its fc6 and fc7 have 1,024 outputs.
"""

from collections.abc import Callable, Iterator
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import roi_pool

from benchmarks.harness import Figure, main, median_ratio, take_turns
from stages.fast.detections import candidates_of, detections_of
from stages.fast.head import FastHead, roi_scores
from stages.fast.pooling import RoiPooling
from stages.fast.rois import TargetNorm
from stages.networks.forward import deterministic
from stages.networks.network import build
from stages.networks.receptive_field import Axis, Geometry

ROIS, CLASSES, FC = 300, 20, 1024
CHANNELS, CELLS, STRIDE, GRID = 512, (38, 63), 16, 7
POOLING_REACH, HEAD_REACH = 1.5, 1 / 1.2
WIDTH, HEIGHT = 1000, 600


def made_up_rois() -> NDArray[np.float32]:
    """Boxes of all sizes and shapes, as proposals are: float32 [ROIS, 4] px."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 0.7, (ROIS, 2))
    ends = np.minimum(corners + rng.uniform(0.05, 0.6, (ROIS, 2)), 1)
    return (np.concatenate([corners, ends], axis=1) * [WIDTH, HEIGHT, WIDTH, HEIGHT]).astype(np.float32)


def made_up_map() -> Tensor:
    """A map [1, c, h, w] in channels-last memory, as convolutions leave it here."""
    drawn = torch.rand(1, CHANNELS, *CELLS, generator=torch.Generator().manual_seed(0))
    return drawn.contiguous(memory_format=torch.channels_last)


def shown(times: list[float]) -> str:
    return f"{1000 * median(times):.0f} ms"


def pooling_figures(pooling: RoiPooling, boxes: NDArray[np.float32], last: Tensor) -> Iterator[Figure]:
    """RoI pooling forward, and forward with the map's gradient."""
    first, corners = last.contiguous(), [torch.from_numpy(pooling.corners(boxes))]
    gradient = torch.rand(ROIS, CHANNELS, GRID, GRID, generator=torch.Generator().manual_seed(1))

    def peer(fmap: Tensor) -> Tensor:
        pooled: Tensor = roi_pool(fmap, corners, GRID, 1 / STRIDE)
        return pooled

    def ours(fmap: Tensor) -> Tensor:
        return pooling(fmap, boxes)

    def back(pool: Callable[[Tensor], Tensor], fmap: Tensor) -> Tensor:
        fmap = fmap.detach().requires_grad_()
        return torch.autograd.grad(pool(fmap), fmap, gradient)[0]

    if not torch.equal(peer(first), ours(last)) or not torch.equal(back(peer, first), back(ours, last)):
        raise AssertionError("RoI pooling is not torchvision's")
    what = f"RoI pooling, {ROIS} RoIs, {CHANNELS} channels, {GRID} x {GRID}"
    theirs, mine = take_turns(lambda: peer(first), lambda: ours(last))
    yield Figure(what, shown(mine), f"torchvision {shown(theirs)}", median_ratio(theirs, mine), POOLING_REACH)
    theirs, mine = take_turns(lambda: back(peer, first), lambda: back(ours, last))
    peer_said = f"torchvision {shown(theirs)}"
    yield Figure(f"{what}, and the map's gradient", shown(mine), peer_said, median_ratio(theirs, mine), POOLING_REACH)


@torch.inference_mode()
def head_figure(pooling: RoiPooling, boxes: NDArray[np.float32], fmap: Tensor) -> Figure:
    """From the map to detections, against the four products alone."""
    network = build("squeezenet1_0", 2, generator=torch.Generator().manual_seed(0), pyramid=(GRID,), fc=(FC, FC))
    head = FastHead(network, CLASSES, torch.Generator().manual_seed(1)).eval()
    layers = [module for module in head.fc.modules() if isinstance(module, torch.nn.Linear)]
    ready, norm = pooling(fmap, boxes).flatten(1), TargetNorm.fixed(CLASSES)

    def products() -> None:
        fc7 = layers[1](layers[0](ready))
        head.cls_score(fc7)
        head.bbox_pred(fc7)

    def whole() -> None:
        probabilities, transforms = roi_scores(head, pooling, norm, fmap, boxes)
        detections_of(candidates_of(probabilities, transforms, boxes, WIDTH, HEIGHT, score_floor=0.04))

    bare, ours = take_turns(products, whole)
    return Figure(
        f"test-time head, {ROIS} RoIs, fc6 and fc7 of {FC}, {CLASSES} classes: map to detections",
        shown(ours),
        f"its products on ready vectors {shown(bare)}",
        median_ratio(bare, ours),
        HEAD_REACH,
        f"{len(pooling.distinct(boxes)[0])} RoIs have cells of their own; each class's score is about 1 / 21, and the "
        "floor below it, so that nearly all boxes enter suppression",
    )


def figures(device: str) -> Iterator[Figure]:
    """All figures; on a CPU only."""
    boxes, fmap = made_up_rois(), made_up_map()
    pooling = RoiPooling(GRID, Geometry(Axis(STRIDE), Axis(STRIDE)))
    with deterministic():
        yield from pooling_figures(pooling, boxes, fmap)
        yield head_figure(pooling, boxes, fmap)


if __name__ == "__main__":
    main(figures)
