"""Writes the letters that notifier sends."""
