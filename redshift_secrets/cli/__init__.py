"""The face for a shell: `redshift-secrets`."""
