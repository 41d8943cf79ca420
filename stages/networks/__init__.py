"""Networks with named layers: architectures, weights, and the pass that computes layers."""
