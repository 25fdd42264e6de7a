"""`backend_kwargs` in, `Settings` or one error out. Pure."""
