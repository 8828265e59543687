"""What a journey can ask for."""

from tests.support.journey import customer, stack

__all__ = ["customer", "stack"]
