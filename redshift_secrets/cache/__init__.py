"""Fresh, stale, expired; one refresh for all: keep what is costly to refresh. Knows nothing of Redshift.

Fresh: returned. Stale: returned at once, while one thread refreshes it behind the lookup. Expired: everyone waits for one
refresh, and if that fails its error is everyone's answer.
"""

from redshift_secrets.cache.process import CacheEntry, ClockSafeEntry, ProcessCache
from redshift_secrets.cache.shared import Group, Refreshed, Rows, SharedTiers
from redshift_secrets.cache.single_flight import Deadline
from redshift_secrets.cache.store import CLOCKS_DIFFER_SECONDS, SharedStore

__all__ = [
    "CLOCKS_DIFFER_SECONDS",
    "CacheEntry",
    "ClockSafeEntry",
    "Deadline",
    "Group",
    "ProcessCache",
    "Refreshed",
    "Rows",
    "SharedStore",
    "SharedTiers",
]
