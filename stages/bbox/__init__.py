"""Bounding-box regression by ridge regression, of each class or of all (paper section 3.5 and appendix C)."""
