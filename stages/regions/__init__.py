"""Regions as sets of pixels: their masks, and how much of what they share, from the segments they are merged of."""
