"""What notifier does by the clock."""
