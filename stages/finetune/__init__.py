"""CNN fine-tuning on warped region proposals (paper section 2.3)."""
