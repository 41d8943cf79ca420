"""From features to detections: scores, box regression, clipping, non-maximum suppression (paper section 2.2)."""
