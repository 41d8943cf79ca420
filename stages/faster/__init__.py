"""Faster R-CNN (Ren et al. 2015): one network for proposals and detections, its trainings, and its work on images."""
