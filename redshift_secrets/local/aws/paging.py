"""One page of a sorted list."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


class BadMarkerError(Exception):
    """A marker that no page of ours ended with."""


def page(
    items: Sequence[Item], name: Callable[[Item], str], size: int, marker: str | None
) -> tuple[list[Item], str | None]:
    """At most `size` of `items` (sorted by `name`) after `marker`, and the marker of the next page if there is one.

    A marker names the last item of its page, so that what comes and goes in between shifts nothing.
    Raises `BadMarkerError`.
    """
    if marker:
        last = _decoded(marker)
        items = [item for item in items if name(item) > last]
    chosen = list(items[:size])
    return chosen, _encoded(name(chosen[-1])) if len(items) > size else None


def _encoded(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def _decoded(marker: str) -> str:
    try:
        return base64.b64decode(marker.encode("ascii"), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError) as error:
        raise BadMarkerError from error
