"""Readers of datasets in the formats of others (VOC, COCO, YOLO, folders, ILSVRC), and the checks that all share."""
