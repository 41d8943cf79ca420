"""Scores of a detector: VOC and COCO average precision, error types, proposal recall, and the result files of both."""
