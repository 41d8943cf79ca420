"""The Region Proposal Network: anchors, what they should answer, the head, its loss, and proposals (Ren et al. 2015)."""
