"""OverFeat's networks, one thread: the dense pass beside one crop after another, all offsets as rows of a product, and
a whole image, from pixels to merged boxes, beside the bare convolutions and products.

Weights are drawn at random: time depends on shapes alone.
"""

import copy
from collections.abc import Callable, Iterator
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.harness import Figure, main, median_ratio, take_turns
from stages.dense.dense_pass import FC_BATCH, DensePass
from stages.dense.maps import DenseMapPass
from stages.dense.scales import scaled_px
from stages.dense.windows import DenseWindows, windows_of
from stages.detections.search import tell_nobody
from stages.networks.forward import deterministic
from stages.networks.network import Network, build
from stages.overfeat.classifier import DenseClassifier, new_classifier
from stages.overfeat.places import image_grid
from stages.overfeat.regressor import EDGES, EdgeRegressor, new_edge_layers
from stages.overfeat.scorer import WindowScorer
from stages.overfeat.search import DenseSearch
from stages.overfeat.settings import MergeSettings, SlideSettings

WIDTH, HEIGHT = 503, 439  # issue 17's: of the fast network 18 x 14 windows at every offset
CROPS = 8  # timed, for all of them: a crop costs the same wherever it is
MACS_REACH = 0.75  # of the ratio of multiply-adds
CELLS = ((29, 35, 4.0), (17, 17, 15.0))  # rows, columns of the accurate network's map, and what is to be reached
WHOLE = (500, 375)  # width and height of VOC's images, px
SCALES_PX = (245, 281, 317, 389, 425, 461)  # the paper's six
CLASSES = 20
LENGTH = 5 * 5 * 1024  # what fc6 of the accurate network takes of a window
WHOLE_REACH = 1 / 1.3  # of the time of convolutions and products alone
ROUNDS = 3


def network_of(name: str) -> Network:
    """One of OverFeat's networks, 1,000 outputs."""
    return build(name, 1000, generator=torch.Generator().manual_seed(0)).eval().requires_grad_(False)


def multiply_adds(module: nn.Module, pixels: Tensor) -> int:
    """Count the products of a forward pass, on tensors without values."""
    counted = [0]

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        counted[0] += output.numel() * layer.weight[0].numel()

    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    module(pixels)
    for hook in hooks:
        hook.remove()
    return counted[0]


def dense_figure() -> Figure:
    """The fast network at every window of an image and its mirror image, and those windows as crops."""
    network = network_of("overfeat_fast")
    dense = DensePass(network)
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    n_windows = dense(image, HEIGHT).reshape(-1, 1000).shape[0]
    side = network.input.side_px
    crops = torch.rand(CROPS, 3, side, side).to(memory_format=torch.channels_last)
    own = network.to(memory_format=torch.channels_last)
    by_crop, whole = take_turns(lambda: own(crops), lambda: dense(image, HEIGHT), rounds=ROUNDS)
    by_crop = [seconds * n_windows / CROPS for seconds in by_crop]
    bare = build("overfeat_fast", 1000, device="meta")
    rows = multiply_adds(bare.fc_graph(["fc8"]), torch.empty(n_windows, 1024 * 36, device="meta"))
    conv = multiply_adds(bare.graph([bare.conv5]), torch.empty(2, 3, HEIGHT, WIDTH, device="meta"))
    one = multiply_adds(bare, torch.empty(1, 3, side, side, device="meta"))
    macs = n_windows * one / (rows + conv)
    return Figure(
        f"dense pass, overfeat_fast, {WIDTH} x {HEIGHT} px, {n_windows} windows",
        f"{median(whole):.2f} s",
        f"crop by crop {median(by_crop):.1f} s ({CROPS} timed)",
        median_ratio(by_crop, whole),
        round(MACS_REACH * macs, 1),
        f"{macs:.1f} times fewer multiply-adds",
    )


def nine_offsets(fmap: Tensor, windows: DenseWindows, convolved: Callable[[Tensor], Tensor]) -> Tensor:
    """The paper's own way: pool at each offset, convolve each pooled map, interleave the results."""
    pooling, rows, columns = windows.pooling, *(length - windows.cells + 1 for length in fmap.shape[2:])
    found = fmap.new_empty(rows, columns, 1000)
    for dy in range(pooling.stride):
        for dx in range(pooling.stride):
            pooled = functional.max_pool2d(fmap[:, :, dy:, dx:], pooling.kernel, pooling.stride)
            part = convolved(pooled)[0].permute(1, 2, 0)
            target = found[dy :: pooling.stride, dx :: pooling.stride]
            target[:] = part[: target.shape[0], : target.shape[1]]
    return found


def as_convolutions(network: Network, grid: int) -> nn.Sequential:
    """The fully connected layers as convolutions with the same weights."""
    layers: list[nn.Module] = []
    for linear in (one for one in network.fc_graph(["fc8"]).modules() if isinstance(one, nn.Linear)):
        kernel = 1 if layers else grid
        layer = nn.Conv2d(linear.in_features // kernel**2, linear.out_features, kernel)
        layer.weight = nn.Parameter(linear.weight.unflatten(1, (-1, kernel, kernel)), requires_grad=False)
        layer.bias = nn.Parameter(linear.bias, requires_grad=False)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1]).to(memory_format=torch.channels_last)


def offset_figures() -> Iterator[Figure]:
    """The accurate network's layers behind conv5 at all nine offsets: rows of a product, and nine convolutions."""
    network = network_of("overfeat_accurate")
    windows, fc = windows_of(network), network.fc_graph(["fc8"])
    convolved = as_convolutions(network, windows.pooling.grid)
    for rows, columns, reach in CELLS:
        fmap = torch.rand(1, 1024, rows, columns).to(memory_format=torch.channels_last)

        def ours(fmap: Tensor = fmap) -> Tensor:
            views = windows(fmap)[0]
            index = torch.unravel_index(torch.arange(views.shape[0] * views.shape[1]), views.shape[:2])
            parts = zip(*(one.split(FC_BATCH) for one in index), strict=True)
            return torch.cat([fc(views[part].flatten(1))[network.node("fc8")] for part in parts])

        def theirs(fmap: Tensor = fmap) -> Tensor:
            return nine_offsets(fmap, windows, convolved)

        torch.testing.assert_close(ours(), theirs().flatten(0, 1), rtol=1e-3, atol=1e-4)
        nine, as_rows = take_turns(theirs, ours, rounds=ROUNDS)
        yield Figure(
            f"all offsets of overfeat_accurate's fc6 to fc8, map of {rows} x {columns} cells",
            f"{median(as_rows):.2f} s as rows",
            f"nine poolings and convolutions {median(nine):.2f} s",
            median_ratio(nine, as_rows),
            reach,
        )


def detector_of(classifier: DenseClassifier, layers: nn.Sequential) -> DenseSearch:
    """Put the accurate network's detector together, in bfloat16."""
    regressor = EdgeRegressor(layers, np.zeros(EDGES), np.ones(EDGES), classifier.classes, False, "")
    merge = MergeSettings(t=0.5)
    scorer = WindowScorer(classifier, regressor, SlideSettings(), merge.k, "cpu", "bfloat16")
    return DenseSearch(DenseMapPass(classifier.network, "float16", "cpu", "bfloat16"), SCALES_PX, scorer, merge)


def bare_work(classifier: DenseClassifier, edges: nn.Sequential) -> tuple[Callable[[], None], int]:
    """Return the same convolutions and products on ready tensors, in bfloat16, and the number of windows."""
    network, windows = classifier.network, windows_of(classifier.network)
    form, kind = torch.channels_last, torch.bfloat16
    conv = copy.deepcopy(network).graph([network.conv5]).to(kind, memory_format=form)  # type: ignore[call-overload]
    products = [copy.deepcopy(one).to(kind) for one in (classifier.fc_module(), edges)]
    sizes = [scaled_px(*WHOLE, scale, windows) for scale in SCALES_PX]
    images = [torch.rand(1, 3, height, width).to(kind, memory_format=form) for width, height in sizes]
    n_windows = len(image_grid(*WHOLE, SCALES_PX, windows))
    rows = torch.rand(FC_BATCH, LENGTH).to(kind)
    last = n_windows % FC_BATCH

    def work() -> None:
        for image in images:
            conv(image)
        for layers in products:
            for _ in range(n_windows // FC_BATCH):
                layers(rows)
            layers(rows[:last])

    return work, n_windows


def whole_figure() -> Figure:
    """An image from pixels to merged boxes at the paper's six scales: all windows, regressed and merged."""
    network = network_of("overfeat_accurate")
    names = [f"class {number}" for number in range(CLASSES)]
    classifier = new_classifier(network, names, torch.Generator().manual_seed(2), context=False)
    network.requires_grad_(False)
    edges = new_edge_layers(LENGTH, (4096, 1024), EDGES, torch.Generator().manual_seed(1)).eval().requires_grad_(False)
    search = detector_of(classifier, edges)
    image = np.random.default_rng(0).integers(0, 256, (WHOLE[1], WHOLE[0], 3), np.uint8)
    work, n_windows = bare_work(classifier, edges)
    bare, whole = take_turns(work, lambda: search(image, "", tell_nobody), rounds=ROUNDS)
    return Figure(
        f"overfeat_accurate, bfloat16, pixels to merged boxes, {WHOLE[0]} x {WHOLE[1]} px, 6 scales, {n_windows} rows",
        f"{median(whole):.2f} s",
        f"convolutions and products alone {median(bare):.2f} s",
        median_ratio(bare, whole),
        round(WHOLE_REACH, 2),
        "the paper: about 2 s on a K20X",
    )


@torch.inference_mode()
def figures(device: str) -> Iterator[Figure]:
    """All figures; on a CPU only."""
    with deterministic():
        yield dense_figure()
        yield from offset_figures()
        yield whole_figure()


if __name__ == "__main__":
    main(figures)
