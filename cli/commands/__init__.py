"""What one types: each group of commands with its options and its help; what they do lies in `cli`."""
