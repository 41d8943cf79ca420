"""Stage ``features``: CNN features of ground truth and proposals, one object per image."""
