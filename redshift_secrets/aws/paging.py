"""Read a listing page by page, to its end, or on from where an earlier attempt was cut."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from redshift_secrets.errors import ENDLESS_PAGING, AwsError

Recall = Callable[[str, Callable[[], Any]], Any]
"""`recall(name, ask)` returns the answer that an earlier, unfinished attempt at the same listing got under `name`. Without one
it calls `ask`, keeps the value for later attempts and returns it. Values are plain data, which msgpack can hold."""

Page = list[Any]
"""What is on the page, as plain data, and the token of the next page; an empty token or `None` on the last page."""

_MAX_PAGES = 1_000

TOKEN_REFUSED = frozenset(
    {
        "InvalidPaginationException",
        "InvalidParameterException",
        "InvalidParameterValue",
        "PaginationTokenExpiredException",
        "ValidationException",
    }
)
"""What the services answer to a page token that they do not take (any more); those of the tagging API last for 15 minutes."""


def ask_aws(_name: str, ask: Callable[[], Any]) -> Any:
    """Recall nothing: ask each time."""
    return ask()


def read_pages(
    operation: str, resource: str, identity: str, ask: Callable[[str | None], Page], recall: Recall
) -> list[Any]:
    """Return what is on each page of a listing. `ask` returns the page of a token, the first page for `None`.

    Raises what `ask` raises, and `AwsError` when the pages do not end. `operation`, `resource` and `identity` are for that error.
    """
    found: list[Any] = []
    token = None
    seen = {token}
    while len(found) < _MAX_PAGES:
        name = operation if token is None else f"{operation} {token}"
        try:
            content, token = recall(name, functools.partial(ask, token))
        except AwsError as error:
            if error.code not in TOKEN_REFUSED or token is None or recall is ask_aws:
                raise
            # The token was given to an earlier attempt, too long ago for this service.
            return read_pages(operation, resource, identity, ask, ask_aws)
        found.append(content)
        if not token:
            return found
        if token in seen:
            break
        seen.add(token)
    reason = f"the pages do not end: after {len(found)} of them there is still another."
    advice = "Look for a proxy or an endpoint that repeats answers."
    raise AwsError(operation, resource, identity, ENDLESS_PAGING, reason, advice, host_only=True)
