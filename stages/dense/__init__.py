"""The dense pass: a network's fully connected layers at every place of a whole image (Sermanet et al. 2013)."""
