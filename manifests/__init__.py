"""What the pipeline runs on: dataset manifests, their readers, and the images they name."""

from cache.errors import DatasetError
from manifests.source import ImageSource, Source

from .dataset import Dataset, ImageRecord
from .images import IMAGE_SUFFIXES, decode_image
from .manifest_json import load_dataset, save_dataset
from .readers.coco import read_coco
from .readers.folders import read_folders
from .readers.ilsvrc import read_ilsvrc
from .readers.options import ReadOptions
from .readers.voc import read_voc
from .readers.yolo import read_yolo
from .registry import Registered, import_dataset, load_registered, refresh, register, registered_names

__all__ = [
    "IMAGE_SUFFIXES",
    "Dataset",
    "DatasetError",
    "ImageRecord",
    "ImageSource",
    "ReadOptions",
    "Registered",
    "Source",
    "decode_image",
    "import_dataset",
    "load_dataset",
    "load_registered",
    "read_coco",
    "read_folders",
    "read_ilsvrc",
    "read_voc",
    "read_yolo",
    "refresh",
    "register",
    "registered_names",
    "save_dataset",
]
