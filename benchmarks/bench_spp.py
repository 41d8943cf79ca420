"""SPP-net's features against R-CNN's of the same 2,000 regions of one photograph, AlexNet with random weights.

Convolutional time: the layers up to conv5 alone, on ready input in memory: R-CNN's over the warped crops of the
regions, SPP's over the image at one scale or five. Time in all: from pixels and boxes to fc7. At one scale little is
left of it but the two products of the fully connected layers, so it is also held against these alone, for as many
vectors in one batch.
R-CNN's figures on a CPU are of the first 128 regions and extrapolated. Either side has the arithmetic, float32 or
bfloat16, in which R-CNN's convolutions are faster, and the same threads.
"""

import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.bench_features import DTYPES, REGIONS, photographs, proposals
from benchmarks.harness import Figure, main, median_ratio, seconds, take_turns
from manifests import ImageSource
from stages.features.crops import Crop, Extractor
from stages.features.spp.extraction import Spp, SppExtractor
from stages.features.spp.windows import cell_windows, choose_scales
from stages.features.warp import warp_regions
from stages.networks.forward import deterministic
from stages.networks.network import Network, build
from stages.networks.pixels import scaled_image
from stages.networks.receptive_field import map_geometry

LEVELS = (1, 2, 3, 6)
SCALES = {"1 scale": (688,), "5 scales": (480, 576, 688, 864, 1200)}
PAPER = {"1 scale": (170, 64), "5 scales": (30, 24)}  # times faster: convolutions, all (SPP paper, Table 6, on a GPU)
POOLED = 256 * sum(n * n for n in LEVELS)  # values of a region
CONV_REACH, FC_REACH = 100, 1 / 1.4
ROUNDS = 3


class Bench:
    """One photograph, its regions, and the networks, on a device."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.part = 128 if device == "cpu" else REGIONS
        self.batch = 16 if device == "cpu" else 250
        with tempfile.TemporaryDirectory() as folder:
            record = photographs(Path(folder))[0]
            self.image = ImageSource(Path(folder)).read(record)
        self.boxes = proposals(record)
        self.plain = _alexnet(None)
        self.pyramid = _alexnet(LEVELS)
        self.dtype = min(DTYPES, key=lambda name: seconds(self.rcnn_conv(name, 32)) + seconds(self.rcnn_conv(name, 32)))

    def timed(self, work: Callable[[], Any]) -> Callable[[], None]:
        """``work`` without gradients, through to its end on the device."""

        def run() -> None:
            with torch.inference_mode():
                work()
                if self.device == "cuda":
                    torch.cuda.synchronize()

        return run

    def _conv(self, dtype: str) -> torch.nn.Module:
        network = _alexnet(None).to(self.device, DTYPES[dtype], memory_format=torch.channels_last)  # type: ignore[call-overload]
        graph: torch.nn.Module = network.graph([network.conv5])
        return graph

    def _ready(self, pixels: Any, dtype: str) -> torch.Tensor:
        return torch.from_numpy(pixels).to(self.device, DTYPES[dtype], memory_format=torch.channels_last)

    def rcnn_conv(self, dtype: str, count: int) -> Callable[[], None]:
        """The convolutional layers over the crops of the first ``count`` regions."""
        conv = self._conv(dtype)
        crops = self._ready(warp_regions(self.image, self.boxes[:count], self.plain.input, layout="nhwc"), dtype)
        return self.timed(lambda: [conv(part) for part in crops.split(self.batch)])

    def spp_conv(self, scales: Sequence[int]) -> Callable[[], None]:
        """The convolutional layers over the image at every scale."""
        conv = self._conv(self.dtype)
        images = [self._ready(scaled_image(self.image, self.plain.input, s), self.dtype) for s in scales]
        return self.timed(lambda: [conv(image) for image in images])

    def rcnn(self) -> Callable[[], None]:
        """Pixels and the first regions to fc7 of crops."""
        options: Any = {"batch": self.batch, "dtype": self.dtype, "device": self.device}
        extract = Extractor(self.plain, ["fc7"], Crop("warp", 16), **options)
        return self.timed(lambda: extract(self.image, self.boxes[: self.part]))

    def spp(self, scales: tuple[int, ...]) -> Callable[[], None]:
        """Pixels and all regions to fc7 of pooled windows."""
        extract = SppExtractor(self.pyramid, ["fc7"], Spp(scales, LEVELS, 224), dtype=self.dtype, device=self.device)
        return self.timed(lambda: extract(self.image, self.boxes))

    def distinct(self, scales: Sequence[int]) -> int:
        """How many different windows of cells the regions have."""
        side, geometry = min(self.image.shape[:2]), map_geometry(self.plain)
        conv = self.plain.graph([self.plain.conv5])
        chosen = choose_scales(self.boxes, side, scales, 224)
        total = 0
        for k, scale in enumerate(scales):
            with torch.inference_mode():
                fmap = conv(torch.from_numpy(scaled_image(self.image, self.plain.input, scale)))[self.plain.conv5]
            windows = cell_windows(self.boxes[chosen == k], side, scale, geometry, fmap.shape[2:])
            total += len(np.unique(windows, axis=0))
        return total

    def products(self) -> Callable[[], None]:
        """fc6 and fc7 alone on ready vectors of all regions."""
        layers = [self.pyramid.trunk.get_submodule(f"classifier.{i}") for i in (1, 2, 4, 5)]
        fc = torch.nn.Sequential(*layers).to(self.device, DTYPES[self.dtype])
        pooled = torch.rand(REGIONS, POOLED).to(self.device, DTYPES[self.dtype])
        return self.timed(lambda: fc(pooled))


def _alexnet(pyramid: tuple[int, ...] | None) -> Network:
    network = build("alexnet", 21, generator=torch.Generator().manual_seed(0), pyramid=pyramid)
    return network.eval().requires_grad_(False)


def _in_full(times: list[float], part: int) -> list[float]:
    """Seconds for all regions, of seconds for ``part`` of them."""
    return [t * REGIONS / part for t in times]


def _shown(times: list[float]) -> str:
    return f"{statistics.median(times):.3g} s"


def figures(device: str) -> Iterator[Figure]:
    """Convolutions and all, at one scale and five, and all against the products alone."""
    with deterministic():
        bench = Bench(device)
        how = f"{bench.dtype}, {REGIONS} regions, one thread"
        conv = take_turns(
            bench.rcnn_conv(bench.dtype, bench.part), *map(bench.spp_conv, SCALES.values()), rounds=ROUNDS
        )
        whole = take_turns(bench.rcnn(), bench.products(), *map(bench.spp, SCALES.values()), rounds=ROUNDS)
    extrapolated = "" if bench.part == REGIONS else f", extrapolated from {bench.part} regions"
    rcnn_conv, rcnn = _in_full(conv[0], bench.part), _in_full(whole[0], bench.part)
    for name, ours, total, (paper_conv, paper_all) in zip(SCALES, conv[1:], whole[2:], PAPER.values(), strict=True):
        yield Figure(
            f"convolutions of an image, AlexNet, SPP at {name}",
            _shown(ours),
            f"R-CNN's {_shown(rcnn_conv)}{extrapolated}",
            median_ratio(rcnn_conv, ours),
            CONV_REACH if name == "1 scale" else None,
            f"{how}; the paper, on a GPU: {paper_conv}",
        )
        yield Figure(
            f"pixels and boxes to fc7, SPP at {name}",
            _shown(total),
            f"R-CNN's {_shown(rcnn)}{extrapolated}",
            median_ratio(rcnn, total),
            None,
            f"{how}; the paper, on a GPU, where fc took R-CNN a hundredth of its convolutions' time: {paper_all}",
        )
        yield Figure(
            f"pixels and boxes to fc7, SPP at {name}, against fc6 and fc7 alone",
            _shown(total),
            f"the two products {_shown(whole[1])}",
            median_ratio(whole[1], total),
            FC_REACH if name == "1 scale" else None,
            f"{how}; {bench.distinct(SCALES[name])} windows are distinct, each computed once",
        )


if __name__ == "__main__":
    main(figures, ("cpu", "cuda"))
