"""What the pipeline runs on: dataset manifests, their readers, and the images they name."""

from .coco import read_coco
from .dataset import Dataset, ImageRecord
from .errors import DatasetError
from .folders import read_folders
from .images import IMAGE_SUFFIXES, ImageSource, decode_image
from .options import ReadOptions
from .registry import Registered, Source, import_dataset, load_registered, refresh, register, registered_names
from .voc import read_voc
from .yolo import read_yolo

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
    "load_registered",
    "read_coco",
    "read_folders",
    "read_voc",
    "read_yolo",
    "refresh",
    "register",
    "registered_names",
]
