"""What the pipeline runs on: dataset manifests, their readers, and the images they name."""

from cache.errors import DatasetError
from manifests.source import ImageSource, Source

from .dataset import Dataset, ImageRecord
from .images import IMAGE_SUFFIXES, decode_image
from .manifest_json import load_dataset, save_dataset
from .readers.coco import read_coco
from .readers.folders import read_folders
from .readers.ilsvrc import read_ilsvrc
from .readers.mask_folder import read_mask_folder
from .readers.options import ReadOptions
from .readers.panoptic import read_panoptic
from .readers.sbd import read_sbd_dataset
from .readers.voc import read_voc, read_voc_masks
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
    "read_mask_folder",
    "read_panoptic",
    "read_sbd_dataset",
    "read_voc",
    "read_voc_masks",
    "read_yolo",
    "refresh",
    "register",
    "registered_names",
    "save_dataset",
]
