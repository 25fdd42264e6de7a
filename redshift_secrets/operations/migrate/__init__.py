"""Moves a site from stored connections to tags, one connection at a time or all together. Copies no password."""
