"""Access keys and the identities behind them."""

from __future__ import annotations

import re
import secrets
import string
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from redshift_secrets.local.aws.errors import AwsError

EXPIRED_TOKEN = "The security token included in the request is expired"

_USER_OR_ROLE = re.compile(
    r"arn:aws:(?:iam::(?P<user_account>\d{12}):user/(?:[^/]+/)*(?P<user>[^/]+)"
    r"|sts::(?P<role_account>\d{12}):assumed-role/(?P<role>[^/]+)/(?P<session>[^/]+))"
)


@dataclass(frozen=True)
class Caller:
    """An IAM user or a session of an assumed role."""

    arn: str
    account: str
    user_id: str
    database_user: str
    """The database user of this identity: `IAM:<user name>`, `IAMR:<role name>` or `IAMR:<session tag RedshiftDbUser>`."""
    session_tags: Mapping[str, str] = field(default_factory=dict)
    source_identity: str | None = None
    """Whom the first session of a chain of roles was for; it is that of all that follow."""

    def tagged(self, key: str) -> tuple[str, ...]:
        """Return the names in a session tag, which are separated by colons; letter case does not count in its key."""
        return _names(self.session_tags, key)


@dataclass(frozen=True)
class AccessKey:
    """The key a client signs with. `expires_at` is in seconds since the epoch; `None` if the key does not expire."""

    key_id: str
    secret: str = field(repr=False)
    session_token: str | None = field(repr=False)
    caller: Caller
    expires_at: float | None


def caller_from_arn(
    arn: str, session_tags: Mapping[str, str] | None = None, source_identity: str | None = None
) -> Caller:
    """Return the caller with this ARN; raises `ValueError` unless it is an IAM user or a session of an assumed role.

    A session tag names the database user: https://docs.aws.amazon.com/redshift/latest/mgmt/query-editor-v2-getting-started.html
    """
    match = _USER_OR_ROLE.fullmatch(arn)
    if match is None:
        raise ValueError(
            f"{arn!r} is neither arn:aws:iam::<account>:user/<name> "
            "nor arn:aws:sts::<account>:assumed-role/<role>/<session>"
        )
    if match["user"]:
        return Caller(arn, match["user_account"], _unique_id("AIDA"), f"IAM:{match['user']}")
    user_id = f"{_unique_id('AROA')}:{match['session']}"
    tags = session_tags or {}
    database_user = ":".join(_names(tags, "RedshiftDbUser")) or match["role"]
    return Caller(arn, match["role_account"], user_id, f"IAMR:{database_user}", tags, source_identity)


def _names(tags: Mapping[str, str], key: str) -> tuple[str, ...]:
    value = next((value for name, value in tags.items() if name.lower() == key.lower()), "")
    return tuple(filter(None, value.split(":")))


class Identities:
    """The access keys that this simulated AWS accepts. Thread-safe."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str, AccessKey] = {}

    def add(self, caller: Caller, *, duration: float | None = None) -> AccessKey:
        """Return a new key for `caller`, valid for `duration` seconds; for an assumed role, with a session token."""
        is_temporary = ":assumed-role/" in caller.arn
        key = AccessKey(
            key_id=_unique_id("ASIA" if is_temporary else "AKIA"),
            secret=secrets.token_urlsafe(30),
            session_token=secrets.token_urlsafe(96) if is_temporary else None,
            caller=caller,
            expires_at=None if duration is None else self._clock() + duration,
        )
        with self._lock:
            self._keys[key.key_id] = key
        return key

    def caller(self, key_id: str, session_token: str | None, protocol: str) -> Caller:
        """Return the owner of a key; raises AWS's error, as the protocol words it, for an invalid or expired key."""
        is_query = protocol not in ("json", "rest-json")
        with self._lock:
            key = self._keys.get(key_id)
        if key is None or key.session_token != session_token:
            code = "InvalidClientTokenId" if is_query else "UnrecognizedClientException"
            raise AwsError(code, "The security token included in the request is invalid.")
        if key.expires_at is not None and key.expires_at <= self._clock():
            code = "ExpiredToken" if is_query else "ExpiredTokenException"
            raise AwsError(code, EXPIRED_TOKEN)
        return key.caller


def _unique_id(prefix: str) -> str:
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-unique-ids
    return prefix + "".join(secrets.choice(string.ascii_uppercase + "234567") for _ in range(16))
