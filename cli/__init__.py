"""The keepword command."""
