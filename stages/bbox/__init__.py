"""Class-specific bounding-box regression by ridge regression (paper section 3.5 and appendix C)."""
