"""The Region Proposal Network (Ren et al. 2015): anchors, their targets, the head, its loss, and proposals."""
