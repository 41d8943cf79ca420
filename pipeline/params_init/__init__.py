"""``rcnn params init``: parameters that agree with a dataset and a network."""
