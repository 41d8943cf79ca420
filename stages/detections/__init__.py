"""Detections from scored regions (paper section 2.2): suppression, thresholds, combining, and those that were saved."""
