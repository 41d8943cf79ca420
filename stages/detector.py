"""The trained detector on new images: the stages' own functions, without DVC and without the store."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache import Artifact
from cache.documents import OperatingPoints, read_operating_points
from cache.errors import StageError
from manifests import Dataset, load_dataset
from stages.bbox.regressor import BoxRegressor, read_box_regressor
from stages.dense.maps import DenseMapPass
from stages.detections.candidates import layers_needed
from stages.detections.search import ProposalSearch, RegionSearch, Report, Search, tell_nobody
from stages.detections.settings import DetectSettings
from stages.detections.suppression import Detection
from stages.detections.thresholds import natural_boundary
from stages.fast.settings import RoiDetectSettings
from stages.faster.agreement import check_classes
from stages.faster.maps import MapPass
from stages.faster.network import load_regions
from stages.faster.proposer import Proposer
from stages.faster.scorer import RoiScorer
from stages.faster.search import RpnSearch, SharedSearch
from stages.faster.settings import MapsSettings
from stages.features.crops import Extractor
from stages.features.method import extractor_of
from stages.features.settings import FeaturesSettings
from stages.features.spp.extraction import SppExtractor
from stages.graph import ROOT
from stages.networks.settings import ArithmeticSettings, NetworkSettings
from stages.networks.weights import load_weights
from stages.overfeat.agreement import check_classes as check_window_classes
from stages.overfeat.classifier import load_classifier
from stages.overfeat.regressor import load_regressor
from stages.overfeat.scorer import WindowScorer
from stages.overfeat.search import DenseSearch
from stages.overfeat.settings import MergeSettings, SlideSettings
from stages.report.inputs import read_rows
from stages.rpn.settings import ProposeSettings
from stages.scoring.precision import PrecisionCurve, precision_curves
from stages.svm.classifier import Classifier, read_classifier

from .trained_files import TrainedFiles, pixels_of, proposal_search


@dataclass(frozen=True)
class _Parts:
    """What a detector is made of: what finds, and how its scores are to be read (:class:`Detector`'s properties)."""

    search: Search
    classes: tuple[str, ...]
    classifier: str
    points: OperatingPoints | None
    kept_from: Mapping[str, float]
    category_ids: Mapping[str, int]
    curves: Path | None = None  # pr.csv of the evaluation that ``points`` are of


class Detector:
    """A detector as a project trained it. Make one with :meth:`load`; call it on an image.

    A cached image of the test split gets the same detections as in the pipeline (before the dataset-wide score
    threshold). Several threads may call it at once.
    """

    def __init__(self, parts: _Parts) -> None:
        self._parts = parts

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes it detects."""
        return self._parts.classes

    @property
    def category_ids(self) -> Mapping[str, int]:
        """COCO category id of each class, as in the dataset it was trained on."""
        return self._parts.category_ids

    def shown_from(self, *, box_regression: bool = True) -> Mapping[str, float]:
        """Return each class's score from which a detection is worth showing.

        It balances precision and recall best on the test split (largest F1), as the evaluation of this detector found.
        For a class without a curve: an SVM's decision boundary, 0, or half of all probability; and for all classes
        where it has not been evaluated (:attr:`is_evaluated`).
        """
        natural = dict.fromkeys(self.classes, natural_boundary(self._parts.classifier))
        points = self._parts.points
        return natural if points is None else natural | dict(points.bbox if box_regression else points.no_bbox)

    @property
    def is_evaluated(self) -> bool:
        """Whether the project's last evaluation was of this detector, by itself."""
        return self._parts.points is not None

    def precision_curves(self, *, box_regression: bool = True) -> Mapping[str, PrecisionCurve]:
        """Return each class's precision by score, from the curve of the last evaluation.

        StageError where that was not of this detector (:attr:`is_evaluated`), had no objects, or has other classes.
        """
        again = "run `dvc repro evaluate` with annotated test images, and without combine.detectors"
        if self._parts.points is None or self._parts.curves is None:
            raise StageError(f"the last evaluation was not of this detector alone, so no precision is known; {again}")
        rows = read_rows(self._parts.curves, ("regression", "class", "score", "recall", "precision"))
        found = precision_curves(rows, "bbox" if box_regression else "no_bbox")
        if not found:
            raise StageError(f"{self._parts.curves}: has no curve, so no precision is known; {again}")
        if unknown := next((name for name in found if name not in self.classes), None):
            raise StageError(
                f"{self._parts.curves}: has class {unknown!r}, which the detector does not know, so it is of another "
                "evaluation or was edited; run `dvc repro -f evaluate`"
            )
        return found

    @property
    def kept_from(self) -> Mapping[str, float]:
        """Return each class's score from which the pipeline keeps a detection to evaluate (``detect.rank_factor``)."""
        return self._parts.kept_from

    @classmethod
    def load(cls, project: str | Path = ".", *, name: str = ROOT, device: str = "auto") -> "Detector":
        """Load a detector as its last `dvc repro` left it, with the parameters that it was made with.

        Args:
            project: the project's folder, where its dvc.yaml is.
            name: a folder of ``detectors/``, or ``rcnn``, the project's own.
            device: auto, cpu or cuda.

        Raises ``StageError`` or ``StoreError`` naming what is missing or does not fit together.
        """
        files = TrainedFiles(Path(project), name)
        if files.kind.detections is None:
            raise StageError(
                f"{name}: joins other detectors' windows and is none of its own; load one of those (`rcnn detector ls`)"
            )
        made_by = {"roi_detect": _shared, "merge": _dense}.get(files.kind.detections, _by_regions)
        return cls(made_by(files, device))

    def pixels_searched(self, width: int, height: int) -> int:
        """How many pixels regions are looked for in, of an image of this size; 0 where the method needs none."""
        return self._parts.search.pixels_searched(width, height)

    def bytes_needed(self, width: int, height: int) -> int:
        """Memory that an image of this size takes while it is worked on, beside the network; measured, rounded up.

        Of R-CNN and SPP-net the regions' features come on top: as many numbers as ``features.layers`` have, in
        ``features.storage``.
        """
        return self._parts.search.bytes_needed(width, height)

    def __call__(
        self,
        image: str | Path | NDArray[np.uint8],
        *,
        min_score: float | None = None,
        box_regression: bool = True,
        report: Report | None = None,
    ) -> list[Detection]:
        """Detect objects, best first.

        Args:
            image: a file, or uint8 [H, W, 3] RGB pixels.
            min_score: only detections that score at least this; None: at least their class's in :meth:`shown_from`.
            box_regression: False gives the proposals' own boxes.
            report: called with the part of the work that begins and, within one, with how much of it is done.

        Raises ``DatasetError`` where the file is no image that can be read, ``StageError`` where the array has another
        shape or type.
        """
        pixels, digest = pixels_of(image)
        both = self._parts.search(pixels, digest, report or tell_nobody)
        found = both.bbox if box_regression else both.no_bbox
        shown = self.shown_from(box_regression=box_regression)
        least = [shown[name] if min_score is None else min_score for name in self.classes]
        order = np.argsort(-found.scores, kind="stable")
        return [
            Detection(self.classes[found.labels[i]], float(found.scores[i]), tuple(found.boxes[i].tolist()))
            for i in order
            if found.scores[i] >= least[found.labels[i]]
        ]


def _by_regions(files: TrainedFiles, device: str) -> _Parts:
    """Put R-CNN or SPP-net together."""
    features = files.made_with("features", "proposals", "weights")
    detect = files.made_with("detect", "features", "svm", "bbox")
    classifier = read_classifier(files.of("svm", "model"))
    regressor = read_box_regressor(files.of("bbox", "model"))
    dataset = load_dataset(files.of("manifest", "manifest"))
    _check_fit(classifier, regressor, dataset.classes)
    search = RegionSearch(
        proposals=proposal_search(files.of("proposals", "manifest")),
        extract=_extractor(features, files, classifier, regressor, device),
        classifier=classifier,
        regressor=regressor,
        settings=DetectSettings.model_validate(detect.params["detect"]),
        storage=str(features.params["features"]["storage"]),
    )
    return _parts(search, files, detect, dataset)


def _shared(files: TrainedFiles, device: str) -> _Parts:
    """Put a detector with one network for all together: Fast R-CNN, or Faster R-CNN of either training."""
    detect = files.made_with("roi_detect", "proposals", "weights")
    maps = MapsSettings.model_validate(detect.params["maps"])
    settings = RoiDetectSettings.model_validate(detect.params["roi_detect"])
    dtype = ArithmeticSettings(dtype=detect.params["network.dtype"]).dtype
    network = load_regions(files.read_by("roi_detect", "weights"))
    dataset = load_dataset(files.of("manifest", "manifest"))
    check_classes(network, dataset.classes, str(files.read_by("roi_detect", "weights")))
    proposals = Artifact.read(files.read_by("roi_detect", "proposals"))
    regions: Proposer | ProposalSearch | RpnSearch
    if proposals.stage == "propose":
        regions = _proposing(files, proposals, device)
    else:
        regions = proposal_search(files.read_by("roi_detect", "proposals"))
    search = SharedSearch(MapPass(network, maps, device, dtype), regions, RoiScorer(network, settings, device, dtype))
    return _parts(search, files, detect, dataset)


def _proposing(files: TrainedFiles, made: Artifact, device: str) -> Proposer | RpnSearch:
    """Return the RPN whose list ``roi_detect`` reads, with the parameters of the list: this detector's or another's."""
    path = files.read_by("roi_detect", "proposals").relative_to(files.project)
    name, node = path.parts[-3:-1]
    own = ProposeSettings.model_validate(made.params["propose"])
    dtype = ArithmeticSettings(dtype=made.params["network.dtype"]).dtype
    of = files if name == files.name else TrainedFiles(files.project, name)
    of.made_with(node, "weights")
    network = load_regions(of.read_by(node, "weights"))
    proposer = Proposer(network, own, int(made.params["seed"]), device, dtype)
    if of is files:
        return proposer
    return RpnSearch(MapPass(network, MapsSettings.model_validate(made.params["maps"]), device, dtype), proposer)


def _dense(files: TrainedFiles, device: str) -> _Parts:
    """Put OverFeat's detector together, with the ``t`` that its ``merge`` has found."""
    maps, slide = files.made_with("maps", "weights"), files.made_with("slide", "maps", "weights", "regressor")
    merge, dataset = files.made_with("merge", "slide"), load_dataset(files.of("manifest", "manifest"))
    paths = {name: files.read_by("slide", name) for name in ("weights", "regressor")}
    classifier, regressor = load_classifier(paths["weights"]), load_regressor(paths["regressor"])
    for one, path in ((classifier, paths["weights"]), (regressor, paths["regressor"])):
        check_window_classes(one.classes, dataset.classes, str(path))
    settings = MergeSettings.model_validate(merge.params["merge"]).model_copy(update={"t": merge.summary["t"]})
    search = DenseSearch(
        DenseMapPass(classifier.network, maps.summary["storage"], device, maps.summary["arithmetic"]),
        tuple(maps.summary["scales_px"]),
        WindowScorer(
            classifier,
            regressor,
            SlideSettings.model_validate(slide.params["slide"]),
            settings.k,
            device,
            slide.params["network.dtype"],
        ),
        settings,
    )
    return _parts(search, files, merge, dataset)


def _parts(search: Search, files: TrainedFiles, detect: Artifact, dataset: Dataset) -> _Parts:
    return _Parts(
        search=search,
        classes=dataset.classes,
        classifier=str(detect.summary["classifier"]),
        points=_operating_points(files, detect),
        kept_from=_kept_from(dataset.classes, detect),
        category_ids=dict(zip(dataset.classes, dataset.category_ids, strict=True)),
        curves=files.of("evaluate", "pr"),
    )


def _operating_points(files: TrainedFiles, detect: Artifact) -> OperatingPoints | None:
    """Return those of the last evaluation, if it was of these detections: not of others, nor of several detectors'."""
    path = files.of("evaluate", "operating_points")
    points = read_operating_points(path) if path.exists() else None
    return points if points is not None and points.detect == detect.digest else None


def _kept_from(classes: tuple[str, ...], detect: Artifact) -> dict[str, float]:
    limits = detect.summary["thresholds"]
    return {name: -np.inf if limits.get(name) is None else float(limits[name]) for name in classes}


def _extractor(
    made: Artifact, files: TrainedFiles, classifier: Classifier, regressor: BoxRegressor, device: str
) -> Extractor | SppExtractor:
    features = FeaturesSettings.model_validate(made.params["features"])
    settings = NetworkSettings.model_validate(made.params["network"])
    network = load_weights(files.of("finetune", "weights"), pool5_grid=settings.pool5_grid)
    return extractor_of(network, layers_needed(classifier, regressor), features, settings, device)


def _check_fit(classifier: Classifier, regressor: BoxRegressor, classes: tuple[str, ...]) -> None:
    if not classifier.classes == regressor.classes == tuple(classes):
        raise StageError(
            "the SVMs, the box regressors and the dataset manifest have different classes; run `dvc repro`"
        )
