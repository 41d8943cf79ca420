"""Readers of datasets in the formats of others (VOC, COCO, YOLO, folders), and the checks that all share."""
