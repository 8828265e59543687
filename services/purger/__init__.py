"""Owns retention, erasure and its proof."""
