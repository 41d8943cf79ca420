"""Near-duplicates: pictures that are in a dataset twice, or in two datasets (R-CNN paper, appendix F)."""
