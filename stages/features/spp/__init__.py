"""SPP-net's features: one convolutional pass over the image, any region pooled from it (He et al. 2014, section 4)."""
