"""One self-contained HTML page that sets several detectors of one dataset side by side."""
