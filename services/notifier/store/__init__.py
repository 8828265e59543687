"""Every SQL statement of notifier, one function per question."""
