"""Every SQL statement of purger, one function per question."""
