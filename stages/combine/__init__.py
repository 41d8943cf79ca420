"""Several detectors' scored windows, suppressed together (SPP-net, section 4.4)."""
