"""Masks of images: class maps, object maps, polygons and run lengths, read into one form."""

from .label_map import VOID, label_map_png, read_label_map, read_panoptic_map, voc_palette
from .read import Masks, masks_digest, read_masks
from .rle import decode_rle, draw_polygons, encode_rle

__all__ = [
    "VOID",
    "Masks",
    "decode_rle",
    "draw_polygons",
    "encode_rle",
    "label_map_png",
    "masks_digest",
    "read_label_map",
    "read_masks",
    "read_panoptic_map",
    "voc_palette",
]
