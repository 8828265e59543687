"""The HTTP edge of notifier."""
