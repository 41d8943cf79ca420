"""OverFeat's detector: a classifier and a box regressor at every window of an image, whose boxes are merged."""
