"""Fast R-CNN on any proposals (Girshick 2015; the detector of Ren et al. 2015): RoIs, pooling, head, detections."""
