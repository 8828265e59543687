"""Error reports of browsers: read, stripped of persons, grouped, kept for a while, shown to staff."""
