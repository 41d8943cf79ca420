"""Compiled arithmetic on rows of features, and the threads that share it out."""
