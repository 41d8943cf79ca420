"""Boxes: their geometry, IoU, the transforms between them, non-maximum suppression, and how well some cover others."""
