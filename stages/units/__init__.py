"""Units of a network: which regions each of them responds to most (R-CNN paper, section 3.1, Figures 4 and 12)."""
