"""Three ages, one rule, one flight: keep what is costly to renew. Knows nothing of Redshift.

Fresh: returned. Usable but not fresh: returned at once, while one thread renews behind the lookup. Dead: everyone
waits for one renewal, and if that fails its error is everyone's answer.
"""

from redshift_secrets.cache.deadline import Deadline
from redshift_secrets.cache.process import CacheEntry, ClockSafeEntry, ProcessCache
from redshift_secrets.cache.shared import Group, Refreshed, Rows, SharedTiers
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
