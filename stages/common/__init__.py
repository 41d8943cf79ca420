"""What several stages need: boxes, region warping, networks, and the contract between a stage and its runner."""
