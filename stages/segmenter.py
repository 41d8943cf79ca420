"""The trained segmentation on new images: the stages' own functions, without DVC and without the store."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache.errors import StageError
from manifests import load_dataset
from stages.detections.search import Report, tell_nobody
from stages.features.method import extractor_of
from stages.features.settings import FeaturesSettings
from stages.graph import ROOT
from stages.networks.settings import NetworkSettings
from stages.networks.weights import load_weights
from stages.segmentation.regressors import read_regressors
from stages.segmentation.search import SegmentSearch
from stages.segmentation.settings import PasteSettings, RegionFeaturesSettings

from .trained_files import TrainedFiles, pixels_of, proposal_search


@dataclass(frozen=True, eq=False)
class PastedRegion:
    """A region of a map: its class, expected overlap with an object of it, box (px) and mask, bool [H, W]."""

    label: str
    score: float
    box: tuple[float, float, float, float]
    mask: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Segmented:
    """An image's map of classes, uint8 [H, W]: 0 background, c + 1 the class ``Segmenter.classes[c]``.

    ``segments`` are what it was pasted of, best first; a better one lies over a worse.
    """

    labels: NDArray[np.uint8]
    segments: tuple[PastedRegion, ...]


class Segmenter:
    """The segmentation as a project trained it. Make one with :meth:`load`; call it on an image.

    A cached image of the test split gets the same map as in the pipeline. Several threads may call it at once.
    """

    def __init__(self, search: SegmentSearch, category_ids: Mapping[str, int]) -> None:
        self._search = search
        self._category_ids = category_ids

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; class c is c + 1 on a map."""
        return self._search.model.classes

    @property
    def category_ids(self) -> Mapping[str, int]:
        """COCO category id of each class, as in the dataset it was trained on."""
        return self._category_ids

    @property
    def threshold(self) -> float:
        """The score above which an image's best region is pasted."""
        return self._search.threshold

    @classmethod
    def load(cls, project: str | Path = ".", *, device: str = "auto") -> "Segmenter":
        """Load what the last `dvc repro segmentation/dvc.yaml` left, with the parameters that it was made with.

        Args:
            project: the project's folder, where its dvc.yaml is.
            device: auto, cpu or cuda.

        Raises ``StageError`` or ``StoreError`` naming what is missing or does not fit together.
        """
        files = TrainedFiles(Path(project), ROOT)
        features = files.made_with("features", "proposals", "weights")
        files.made_with("region_features", "proposals", "weights", "features")
        pasted = files.made_with("paste", "proposals", "features", "region_features", "model")
        model = read_regressors(files.of("svr", "model"))
        dataset = load_dataset(files.of("manifest", "manifest"))
        if model.classes != dataset.classes:
            raise StageError(
                "the regressors and the dataset manifest have different classes; run `dvc repro segmentation/dvc.yaml`"
            )
        own, network_settings = (
            FeaturesSettings.model_validate(features.params["features"]),
            NetworkSettings.model_validate(features.params["network"]),
        )
        network = load_weights(files.of("finetune", "weights"), pool5_grid=network_settings.pool5_grid)
        extract = extractor_of(network, [model.layer], own, network_settings, device)
        # What lies outside a region is at the mean, and so is what lies outside the image, whatever boxes have there.
        at_mean = own.model_copy(update={"padding": "mean"})
        extract_fg = (
            extract if at_mean == own else extractor_of(network, [model.layer], at_mean, network_settings, device)
        )
        search = SegmentSearch(
            proposals=proposal_search(files.of("proposals", "manifest")),
            extract=extract,
            extract_fg=extract_fg,
            model=model,
            paste=PasteSettings.model_validate(pasted.params["paste"]),
            regions=RegionFeaturesSettings.model_validate(pasted.params["region_features"]),
            threshold=float(pasted.summary["threshold"]),
            storage=own.storage,
        )
        return cls(search, dict(zip(dataset.classes, dataset.category_ids, strict=True)))

    def pixels_searched(self, width: int, height: int) -> int:
        """How many pixels regions are looked for in, of an image of this size; 0 where the method needs none."""
        return self._search.proposals.pixels_searched(width, height)

    def bytes_needed(self, width: int, height: int) -> int:
        """Memory that an image of this size takes while it is worked on, beside the network and the features."""
        return self._search.proposals.bytes_needed(width, height)

    def __call__(
        self,
        image: str | Path | NDArray[np.uint8],
        *,
        threshold: float | None = None,
        report: Report | None = None,
    ) -> Segmented:
        """Segment an image.

        Args:
            image: a file, or uint8 [H, W, 3] RGB pixels.
            threshold: the score above which the best region is pasted; None: :attr:`threshold`.
            report: called with the part of the work that begins and, within one, with how much of it is done.

        Raises ``DatasetError`` where the file is no image that can be read, ``StageError`` where the array has another
        shape or type.
        """
        pixels, digest = pixels_of(image)
        found = self._search.above(threshold)(pixels, digest, report or tell_nobody)
        segments = [
            PastedRegion(self.classes[label], score, (box[0], box[1], box[2], box[3]), mask)
            for label, score, box, mask in zip(
                found.regions.labels.tolist(),
                found.regions.scores.tolist(),
                found.boxes.tolist(),
                found.masks,
                strict=True,
            )
        ]
        return Segmented(found.labels, tuple(segments))
