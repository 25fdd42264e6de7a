"""`backend_kwargs` in, `Settings` or one error out. Pure."""

from redshift_secrets.settings.records import BACKEND_CLASS_PATHS, Account, Cache, Fallback
from redshift_secrets.settings.settings import Settings

__all__ = ["BACKEND_CLASS_PATHS", "Account", "Cache", "Fallback", "Settings"]
