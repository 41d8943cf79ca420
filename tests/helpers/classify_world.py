"""A project of class folders whose pictures are classified, over a real store and dataset."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from network_parts import trunk_of
from PIL import Image
from stage_context import StageContext

from manifests import ImageSource, ReadOptions, import_dataset
from stages.classification.settings import ClassifySettings
from stages.networks.network import build
from stages.networks.weights import class_names_meta, save_weights

CLASSES = ("ant", "bee", "cow", "dog", "elk", "fox")


class World(StageContext):
    """A project with class folders of six classes and weights."""

    def __init__(self, root: Path, pyramid: tuple[int, ...] | None = (2, 1), **settings: Any) -> None:
        super().__init__(root, "classify", {"classify": ClassifySettings(**settings)})
        rng = np.random.default_rng(1)
        for i in range(18):
            file = root / "pictures" / ("test" if i < 12 else "train") / CLASSES[i % 6] / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            blobs = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8))  # unlike each other, unlike noise
            blobs.resize((80 - 2 * i, 40 + 3 * i), Image.Resampling.NEAREST).save(file)
        made = import_dataset("folders", root / "pictures", "toy", ReadOptions(), root / "artifacts")
        self._dataset, self.image = made.dataset, ImageSource(made.source.root).read
        self.outputs = ("zoo", *reversed(CLASSES))
        self.take_network(2, pyramid)

    def take_network(self, seed: int, pyramid: tuple[int, ...] | None = None) -> None:
        """Draw weights from a seed, and save them."""
        self.network = build("small", 7, pyramid=pyramid, generator=torch.Generator().manual_seed(seed)).eval()
        with torch.no_grad():
            trunk_of(self.network).classifier[-1].weight.mul_(8)  # so that views disagree
        self.save_weights(self.outputs)

    def save_weights(self, outputs: Sequence[str] | None) -> None:
        """Save weights as if trained for ``outputs``; None: a file that does not name them."""
        save_weights(self.place("weights"), self.network, class_names_meta(outputs))

    def report(self) -> dict[str, Any]:
        self.run()
        report: dict[str, Any] = json.loads(self.output("report").read_text())
        return report
