"""AWS's rules for tags. https://docs.aws.amazon.com/redshift/latest/mgmt/amazon-redshift-tagging.html"""

from __future__ import annotations

import re
from collections.abc import Mapping

MAX_TAGS = 50

_ALLOWED = re.compile(r"[\w\s+\-=._:/@]*")


def tag_problem(key: str, value: str) -> str | None:
    """Return why AWS would reject this tag; `None` for a valid one."""
    if not 1 <= len(key) <= 128:
        return f"The tag key {key!r} must have 1 to 128 characters."
    if len(value) > 256:
        return f"The value of the tag {key!r} must have at most 256 characters."
    if key.lower().startswith("aws:"):
        return f"The tag key {key!r} must not start with aws: (reserved)."
    if not _ALLOWED.fullmatch(key) or not _ALLOWED.fullmatch(value):
        return f"The tag {key!r} may contain only letters, digits, spaces and + - = . _ : / @"
    return None


def tags_problem(tags: Mapping[str, str]) -> str | None:
    """Return why AWS would reject one of these tags; `None` if all are valid. Does not check their number."""
    return next(filter(None, (tag_problem(key, value) for key, value in tags.items())), None)


def matches_any(tags: Mapping[str, str], keys: list[str], values: list[str]) -> bool:
    """Return whether one tag has any of the keys and any of the values (an empty list allows all), as Redshift filters.

    https://docs.aws.amazon.com/redshift/latest/APIReference/API_DescribeClusters.html
    """
    if not keys and not values:
        return True
    return any((not keys or key in keys) and (not values or value in values) for key, value in tags.items())
