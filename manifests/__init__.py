"""What the pipeline runs on: dataset manifests, their readers, and the images they name."""

from .dataset import Dataset, ImageRecord
from .errors import DatasetError
from .images import ImageSource, decode_image

__all__ = ["Dataset", "DatasetError", "ImageRecord", "ImageSource", "decode_image"]
