"""What the installer does by the clock, and every call of its own to a system that is not ours."""
