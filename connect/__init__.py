"""Atlassian's protocols as a library: JWT and qsh, signed install, lifecycle bodies."""
