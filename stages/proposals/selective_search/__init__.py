"""Selective search (Uijlings et al. 2013): a segmentation whose regions are grouped step by step."""
