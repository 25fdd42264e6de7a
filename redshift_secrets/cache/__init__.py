"""Three ages, one rule, one flight: keep what is costly to renew. Knows nothing of Redshift.

Fresh: returned. Usable but not fresh: returned at once, while one thread renews behind the lookup. Dead: everyone
waits for one renewal, and if that fails its error is everyone's answer.
"""

from redshift_secrets.cache.aged import Aged, AgedCache, Kept
from redshift_secrets.cache.deadline import Deadline
from redshift_secrets.cache.store import CLOCKS_DIFFER_SECONDS, SharedStore
from redshift_secrets.cache.tiers import Group, Renewed, Rows, Tiers

__all__ = [
    "CLOCKS_DIFFER_SECONDS",
    "Aged",
    "AgedCache",
    "Deadline",
    "Group",
    "Kept",
    "Renewed",
    "Rows",
    "SharedStore",
    "Tiers",
]
