"""Owns what customers create with the app."""
