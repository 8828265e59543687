"""Records that were given up: written down, parked behind, mended, tried again, put aside."""
