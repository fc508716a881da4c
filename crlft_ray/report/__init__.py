"""Reports: one HTML page each, which loads nothing."""
