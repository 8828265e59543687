"""Every SQL statement of config, one file a subject."""
