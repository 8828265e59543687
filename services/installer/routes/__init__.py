"""The installer's HTTP edge: Atlassian's calls, public keys, and a laptop's own routes."""
