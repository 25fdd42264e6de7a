"""Errors of the fleet store, described in words that can be logged.

Neither the texts of redis-py nor those of servers are used: they quote commands and URLs, and with them passwords
("ERR unknown command 'AUTH', with args beginning with: ...").
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator


class RedisTimeoutError(Exception):
    """A call that was abandoned after `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no answer within {seconds:g} s")


_DESCRIPTIONS = {
    "AuthenticationError": "wrong user name or password",
    "AuthenticationWrongNumberOfArgsError": "wrong user name or password",
    "NoPermissionError": "the access rules of its user do not allow a command or a key",
    "ReadOnlyError": "a replica, which cannot be written to",
    "OutOfMemoryError": "out of memory (maxmemory)",
    "BusyLoadingError": "still loading its data",
    "InvalidResponse": "the answer is not in the Redis protocol",
    "MasterNotFoundError": "no Sentinel that answers knows a healthy master of this name",
    "MaxConnectionsError": "all connections that the URL allows are in use",
    "ClusterDownError": "the cluster is down",
    "MasterDownError": "a replica that has lost its master",
    "MovedError": "a node of a cluster: write redis+cluster:// or rediss+cluster:// in its URL",
    "AskError": "a node of a cluster: write redis+cluster:// or rediss+cluster:// in its URL",
    "TryAgainError": "the cluster is moving its keys",
    "RedisClusterException": "no node of the cluster can be used, or redis-py is older than 6.1",
    "TimeoutError": "no answer in time",
    "ModuleNotFoundError": "redis-py is not installed: pip install 'redshift-secrets[redis]'",
}


_BEGINNINGS = {
    "BUSY ": "busy with a script",
    "CLUSTERDOWN ": "the cluster is down",  # for which redis-py 5 has no class outside of a cluster
    "MISCONF ": "it cannot save to its disk, and takes no writes until it can",
    "NOREPLICAS ": "it has too few replicas to take writes",
    "max number of clients reached": "it has no connection left (maxclients)",
}
"""How texts of servers begin for which redis-py has no class."""
_IN_PIPELINE = " of pipeline caused error: "
"""What redis-py writes before such a text, after the command."""


def describe_error(error: BaseException) -> str:
    """Return a phrase that says why `error` happened, without any text that came from outside."""
    if isinstance(error, RedisTimeoutError):
        return str(error)
    chain = list(_chain(error))
    for each in chain:
        # The system's own texts have neither a server's text nor the name of a file.
        if isinstance(each, ssl.SSLError):
            return f"TLS failed: {getattr(each, 'verify_message', '') or each.reason or type(each).__name__}"
        if isinstance(each, OSError) and each.strerror:
            return each.strerror
    for each in chain:
        text = str(each).rpartition(_IN_PIPELINE)[2]
        for beginning, description in _BEGINNINGS.items():
            if text.startswith(beginning):
                return description
        for kind in type(each).__mro__:
            if kind.__name__ in _DESCRIPTIONS:
                return _DESCRIPTIONS[kind.__name__]
    return f"unexpected {type(error).__name__}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
