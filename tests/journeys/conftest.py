"""What a journey can ask for."""

from tests.support.drills import drill, own_kafka
from tests.support.journey import customer, stack

__all__ = ["customer", "drill", "own_kafka", "stack"]
