"""What went wrong with the fleet's store, in words that can be logged.

The texts of redis-py and of servers are never used: they quote commands and URLs, and with them passwords
("ERR unknown command 'AUTH', with args beginning with: ...").
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator


class RedisTimeoutError(Exception):
    """A call that was given up after `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"it did not answer within {seconds:g} s")


_REASONS = {
    "AuthenticationError": "it refuses the user name or password",
    "AuthenticationWrongNumberOfArgsError": "it refuses the user name or password",
    "NoPermissionError": "its access rules do not let this user do that",
    "ReadOnlyError": "it is a replica that cannot be written to",
    "OutOfMemoryError": "it is full (maxmemory)",
    "BusyLoadingError": "it is still loading its data",
    "InvalidResponse": "it does not speak the protocol of Redis",
    "MasterNotFoundError": "no Sentinel that answers knows a healthy master of this name",
    "MaxConnectionsError": "all connections that the URL allows are in use",
    "ClusterDownError": "the cluster is down",
    "RedisClusterException": "no node of the cluster can be used, or redis-py is older than 6.1",
    "TimeoutError": "it did not answer in time",
    "ModuleNotFoundError": "redis-py is not installed: pip install 'redshift-secrets[redis]'",
}


def describe_error(error: BaseException) -> str:
    """Return one line that says why `error` happened, without any text that came from outside."""
    if isinstance(error, RedisTimeoutError):
        return str(error)
    chain = list(_chain(error))
    for each in chain:
        # The system's own words: no text of a server, no name of a file.
        if isinstance(each, ssl.SSLError):
            return f"TLS failed: {getattr(each, 'verify_message', '') or each.reason or type(each).__name__}"
        if isinstance(each, OSError) and each.strerror:
            return f"it cannot be reached: {each.strerror}"
    for each in chain:
        for kind in type(each).__mro__:
            if kind.__name__ in _REASONS:
                return _REASONS[kind.__name__]
    return f"it cannot be used ({type(error).__name__})"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
