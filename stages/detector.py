"""The trained detector on new images: the stages' own functions, without DVC and without the store."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cache import Artifact, digest_file
from cache.documents import OperatingPoints, read_operating_points
from cache.errors import StageError
from manifests import ImageRecord, decode_image, load_dataset
from stages.bbox.regressor import BoxRegressor, read_box_regressor
from stages.boxes.geometry import Boxes
from stages.detections.candidates import candidates_of, layers_needed
from stages.detections.settings import DetectSettings
from stages.detections.suppression import BoxSet, Detection, suppressed
from stages.detections.thresholds import natural_boundary
from stages.features.crops import Extractor
from stages.features.method import extractor_of
from stages.features.objects import narrow
from stages.features.settings import FeaturesSettings
from stages.features.spp.extraction import SppExtractor
from stages.graph import ROOT, STAGES, at, place
from stages.networks.settings import NetworkSettings
from stages.networks.weights import load_weights
from stages.proposals.methods import NEEDS_PIXELS, prepare, proposals_of
from stages.proposals.ranking import working_size
from stages.proposals.settings import ProposalsSettings
from stages.svm.classifier import Classifier, read_classifier

# What a stage's list was made from: the name of the input, and whose output it is.
_USED = {
    "features": {"proposals": ("proposals", "manifest"), "weights": ("finetune", "weights")},
    "detect": {"features": ("features", "manifest"), "svm": ("svm", "model"), "bbox": ("bbox", "model")},
}


# Bytes a pixel. Measured: selective search takes 74 beside its label maps, 4 each; decoding and drawing take the rest.
_SEARCH_BYTES, _IMAGE_BYTES = 80, 20
_REGIONS_AT_ONCE = 512


class Report(Protocol):
    """What a detector tells while it works: the part that begins and, within one, how much of it is done."""

    def __call__(self, part: str, done: int = 0, total: int = 0) -> None: ...


def _tell_nobody(part: str, done: int = 0, total: int = 0) -> None:
    """Say nothing: the :class:`Report` of who asked for none."""


@dataclass(frozen=True)
class _Parts:
    proposals: ProposalsSettings
    seed: int
    extract: Extractor | SppExtractor
    classifier: Classifier
    regressor: BoxRegressor
    settings: DetectSettings
    storage: str
    points: OperatingPoints | None
    kept_from: Mapping[str, float]
    category_ids: Mapping[str, int]


class Detector:
    """R-CNN as a project trained it. Make one with :meth:`load`; call it on an image.

    A cached image of the test split gets the same detections as in the pipeline (before the dataset-wide score
    threshold). Several threads may call it at once.
    """

    def __init__(self, parts: _Parts) -> None:
        self._parts = parts

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes it detects."""
        return self._parts.classifier.classes

    @property
    def category_ids(self) -> Mapping[str, int]:
        """COCO category id of each class, as in the dataset it was trained on."""
        return self._parts.category_ids

    def shown_from(self, *, box_regression: bool = True) -> Mapping[str, float]:
        """Per class the score from which a detection is worth showing.

        It balances precision and recall best on the test split (largest F1), as the evaluation of this detector found.
        For a class without a curve: an SVM's decision boundary, 0, or half of all probability; and for all classes
        where it has not been evaluated (:attr:`is_evaluated`).
        """
        natural = dict.fromkeys(self.classes, natural_boundary(self._parts.classifier.kind))
        points = self._parts.points
        return natural if points is None else natural | dict(points.bbox if box_regression else points.no_bbox)

    @property
    def is_evaluated(self) -> bool:
        """Whether the project's last evaluation was of this detector, by itself."""
        return self._parts.points is not None

    @property
    def kept_from(self) -> Mapping[str, float]:
        """Per class the score from which the pipeline keeps a detection for evaluation (``detect.rank_factor``)."""
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
        files = _Files(Path(project), name)
        made = {stage: Artifact.read(files.of(stage, "manifest")) for stage in ("proposals", "features", "detect")}
        proposals = ProposalsSettings.model_validate(made["proposals"].params["proposals"])
        if proposals.method == "file":
            raise StageError(
                "the detector was trained on proposals from a file, which new images do not have; "
                "set proposals.method to selective_search and run `dvc repro`"
            )
        prepare(proposals)
        _check_made_together(made, files)
        classifier = read_classifier(files.of("svm", "model"))
        regressor = read_box_regressor(files.of("bbox", "model"))
        dataset = load_dataset(files.of("manifest", "manifest"))
        _check_fit(classifier, regressor, dataset.classes)
        return cls(
            _Parts(
                proposals=proposals,
                seed=int(made["proposals"].params["seed"]),
                extract=_extractor(made["features"], files, classifier, regressor, device),
                classifier=classifier,
                regressor=regressor,
                settings=DetectSettings.model_validate(made["detect"].params["detect"]),
                storage=str(made["features"].params["features"]["storage"]),
                points=_operating_points(files, made["detect"]),
                kept_from=_kept_from(classifier, made["detect"]),
                category_ids=dict(zip(dataset.classes, dataset.category_ids, strict=True)),
            )
        )

    def pixels_searched(self, width: int, height: int) -> int:
        """How many pixels regions are looked for in, of an image of this size; 0 where the method needs none."""
        settings = self._parts.proposals
        searched_width, searched_height = working_size(width, height, settings.resize_width_px)
        return searched_width * searched_height if settings.method in NEEDS_PIXELS else 0

    def bytes_needed(self, width: int, height: int) -> int:
        """Memory that an image of this size takes while it is worked on, beside the network; measured, rounded up.

        The regions' features come on top: as many numbers as ``features.layers`` have, in ``features.storage``.
        """
        settings = self._parts.proposals
        label_maps = len(settings.k) * len(settings.colors)
        return self.pixels_searched(width, height) * (_SEARCH_BYTES + 4 * label_maps) + width * height * _IMAGE_BYTES

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
        pixels, digest = _pixels(image)
        found = self._boxes(pixels, digest, box_regression, report or _tell_nobody)
        shown = self.shown_from(box_regression=box_regression)
        least = [shown[name] if min_score is None else min_score for name in self.classes]
        order = np.argsort(-found.scores, kind="stable")
        return [
            Detection(self.classes[found.labels[i]], float(found.scores[i]), tuple(found.boxes[i].tolist()))
            for i in order
            if found.scores[i] >= least[found.labels[i]]
        ]

    def _boxes(
        self, pixels: NDArray[np.uint8], digest: str, box_regression: bool, report: Report = _tell_nobody
    ) -> BoxSet:
        parts = self._parts
        height, width = pixels.shape[:2]
        record = _record(width, height, digest)
        given = pixels if parts.proposals.method in NEEDS_PIXELS else None
        report("looking for regions")
        boxes = proposals_of(record, given, parts.proposals, parts.seed, None)[0]["boxes"]
        stored = features_in_parts(parts.extract, pixels, boxes, parts.storage, report)
        report("scoring")
        scored = candidates_of(stored, boxes, parts.classifier, parts.regressor, width, height, parts.settings)
        found = suppressed(scored, parts.settings.nms_iou)
        return found.bbox if box_regression else found.no_bbox


def features_in_parts(
    extract: Extractor | SppExtractor, pixels: NDArray[np.uint8], boxes: Boxes, storage: str, report: Report
) -> dict[str, NDArray[Any]]:
    """[n, d] per layer, rounded as the store rounds them, so that a cached image and a new one score the same.

    Some hundred regions at a time are held in the network's own precision, where their bits allow it.
    """
    at_once = max(1, len(boxes))  # SPP pools all regions from one pass over the image
    if isinstance(extract, Extractor):  # whole batches
        at_once = extract.batch * -(-_REGIONS_AT_ONCE // extract.batch)
    parts: list[dict[str, NDArray[Any]]] = []
    for start in range(0, max(1, len(boxes)), at_once):
        report("features", start, len(boxes))
        features = extract(pixels, boxes[start : start + at_once])
        parts.append({name: narrow(f, storage, name, "image") for name, f in features.items()})
    return parts[0] if len(parts) == 1 else {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


@dataclass(frozen=True)
class _Files:
    """The files of one detector of a project."""

    project: Path
    name: str

    def of(self, stage: str, output: str) -> Path:
        """Return the path of a stage's output."""
        path = at(place(STAGES[stage]), self.name).outputs[output]
        if stage == "detect" and self.name != ROOT and not (self.project / "detectors" / self.name).is_dir():
            raise StageError(f"{self.project}: has no detector {self.name!r}; `rcnn detector ls` lists those there are")
        return self.project / path


def _check_made_together(made: Mapping[str, Artifact], files: _Files) -> None:
    """Refuse parts that do not belong together: a stage run by itself, or a run that was stopped, leaves such."""
    for reader in ("features", "detect"):
        for name, (stage, output) in _USED[reader].items():
            path = files.of(stage, output)
            if made[reader].inputs.get(name) != digest_file(path):
                made_with = files.of(reader, "manifest").parent.relative_to(files.project)
                raise StageError(
                    f"{path}: not the one that {made_with} was made with; run `dvc repro`, which runs what is missing"
                )


def _operating_points(files: _Files, detect: Artifact) -> OperatingPoints | None:
    """Return those of the last evaluation, if it was of these detections: not of others, nor of several detectors'."""
    path = files.of("evaluate", "operating_points")
    points = read_operating_points(path) if path.exists() else None
    return points if points is not None and points.detect == detect.digest else None


def _kept_from(classifier: Classifier, detect: Artifact) -> dict[str, float]:
    limits = detect.summary["thresholds"]
    return {name: -np.inf if limits.get(name) is None else float(limits[name]) for name in classifier.classes}


def _extractor(
    made: Artifact, files: _Files, classifier: Classifier, regressor: BoxRegressor, device: str
) -> Extractor | SppExtractor:
    features = FeaturesSettings.model_validate(made.params["features"])
    settings = NetworkSettings.model_validate(made.params["network"])
    network = load_weights(files.of("finetune", "weights"))
    if settings.pool5_grid is not None:
        network.pool5_grid = settings.pool5_grid
    return extractor_of(network, layers_needed(classifier, regressor), features, settings, device)


def _check_fit(classifier: Classifier, regressor: BoxRegressor, classes: tuple[str, ...]) -> None:
    if not classifier.classes == regressor.classes == tuple(classes):
        raise StageError(
            "the SVMs, the box regressors and the dataset manifest have different classes; run `dvc repro`"
        )


def _pixels(image: str | Path | NDArray[np.uint8]) -> tuple[NDArray[np.uint8], str]:
    """Upright RGB pixels, and the digest that seeds the ranking of this image's proposals."""
    if isinstance(image, str | Path):
        data = _read(Path(image))
        return decode_image(data, str(image)), hashlib.sha256(data).hexdigest()
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        given = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise StageError(f"an image must be a file or a uint8 [H, W, 3] RGB array, not {given}")
    return image, hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StageError(f"{path}: cannot be read ({error.strerror}); check the path") from None


def _record(width: int, height: int, digest: str) -> ImageRecord:
    """A record without objects, for the functions that a dataset's images go through."""
    return ImageRecord(
        id=0,
        file_name="image",
        width=width,
        height=height,
        sha256=digest,
        split="new",
        boxes=np.zeros((0, 4), np.float32),
        labels=np.zeros(0, np.int64),
        difficult=np.zeros(0, bool),
        truncated=np.zeros(0, bool),
    )
