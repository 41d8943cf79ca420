"""The names that people import: the trained detector and segmentation, the dataset, the store, and cached features.

from rcnn import Detector, Segmenter, load_dataset, Store, FeatureSet
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cache import Artifact, Store
from manifests import Dataset, ImageRecord, load_dataset

if TYPE_CHECKING:  # these bring torch, which is imported at their first use
    from stages.detections.suppression import Detection
    from stages.detector import Detector
    from stages.features.featureset import FeatureSet
    from stages.segmenter import Segmenter

__all__ = [
    "Artifact",
    "Dataset",
    "Detection",
    "Detector",
    "FeatureSet",
    "ImageRecord",
    "Segmenter",
    "Store",
    "load_dataset",
]
_HEAVY = {
    "Detection": "stages.detections.suppression",
    "Detector": "stages.detector",
    "FeatureSet": "stages.features.featureset",
    "Segmenter": "stages.segmenter",
}


def __getattr__(name: str) -> Any:
    if name not in _HEAVY:
        raise AttributeError(f"module 'rcnn' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HEAVY[name]), name)
