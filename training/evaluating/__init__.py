"""Running detectors over a set, and what is printed of it."""
