"""Diagnosis of a detector's results: what its false positives are, and which objects it misses (Hoiem et al., 2012)."""
