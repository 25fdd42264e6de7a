"""What to look at and to copy. `make demo` runs it."""
