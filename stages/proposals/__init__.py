"""Region proposals: selective search and the methods that can stand in for it (paper section 2.1)."""
