"""Every SQL statement of the installer, one function per question."""
