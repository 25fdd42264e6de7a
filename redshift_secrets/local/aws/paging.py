"""Pages of a sorted list."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


class BadMarkerError(Exception):
    """A marker that the stand-in never returned."""


def page(
    items: Sequence[Item], name: Callable[[Item], str], size: int, marker: str | None
) -> tuple[list[Item], str | None]:
    """Return at most `size` of `items` (sorted by `name`) after `marker`, and the marker of the next page, if any.

    A marker encodes the name of the last item on its page, so that items added or removed between two calls shift
    nothing. Raises `BadMarkerError`.
    """
    if marker:
        last = _decode(marker)
        items = [item for item in items if name(item) > last]
    chosen = list(items[:size])
    return chosen, _encode(name(chosen[-1])) if len(items) > size else None


def _encode(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def _decode(marker: str) -> str:
    try:
        return base64.b64decode(marker.encode("ascii"), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError) as error:
        raise BadMarkerError from error
