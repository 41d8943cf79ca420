"""Training of any network: the loop, Caffe's solver, the curve, and checkpoints."""
