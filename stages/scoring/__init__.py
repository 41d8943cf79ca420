"""Scores of detections and proposals against ground truth: matching, VOC's and COCO's AP, recall, kinds of mistakes."""
