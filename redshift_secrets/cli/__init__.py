"""A shell's face: `redshift-secrets`, one file for each command."""
