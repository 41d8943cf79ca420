"""The dataset of one run: the two splits and the classes asked for, with every image file checked."""
