"""The HTTP edge of config, one file a subject."""
