"""What our services say to each other: events, topics, their schemas, the six-month rule."""
