"""The fleet tier."""
