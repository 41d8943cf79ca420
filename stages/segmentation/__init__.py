"""Semantic segmentation with region features (paper section 5): overlaps, regressors, pasting, what it scores."""
