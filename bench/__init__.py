"""Figures against peers and bare limits."""
