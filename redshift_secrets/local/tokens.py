"""The tokens that the simulated AWS has minted and the gateway accepts.

The simulated AWS writes (`TokenRegistry.mint`), the gateway reads (`TokenRegistry.check`). In real Redshift, the
control plane and the leader node share this knowledge.
"""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field


class TokenRefusedError(Exception):
    """A login that Redshift would reject; the message is what Redshift sends to the client."""


@dataclass(frozen=True)
class Token:
    """A database user and password, valid for a limited time.

    `user` is the name as returned by AWS (`IAM:etl`, `IAMA:etl`, `IAMR:role`), `role` the database role of its
    sessions. `expires_at` is in seconds since the epoch; `None` for an admin password, which does not expire.
    """

    warehouse: str
    user: str
    role: str
    password: str = field(repr=False)
    expires_at: float | None
    database: str | None = None
    db_groups: tuple[str, ...] = ()
    tagged_groups: tuple[str, ...] = ()
    """Groups or database roles from session tags; unlike `db_groups`, those that do not exist are ignored."""
    auto_create: bool = False


class TokenRegistry:
    """All minted tokens, by warehouse and user. Thread-safe.

    `clock` returns seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens: dict[tuple[str, str], list[Token]] = {}

    def mint(
        self,
        *,
        warehouse: str,
        user: str,
        role: str,
        duration: float | None,
        database: str | None = None,
        db_groups: tuple[str, ...] = (),
        tagged_groups: tuple[str, ...] = (),
        auto_create: bool = False,
        password: str | None = None,
    ) -> Token:
        """Register and return a token for `user` on the warehouse with this ARN, valid for `duration` seconds.

        `duration=None` with `password` registers an admin password.
        """
        now = self._clock()
        token = Token(
            warehouse=warehouse,
            user=user,
            role=role,
            password=password if password is not None else _redshift_like_password(),
            expires_at=None if duration is None else now + duration,
            database=database,
            db_groups=db_groups,
            tagged_groups=tagged_groups,
            auto_create=auto_create,
        )
        with self._lock:
            tokens = self._tokens.setdefault((warehouse, user), [])
            # Forget tokens a day after they expired.
            tokens[:] = [t for t in tokens if t.expires_at is None or t.expires_at > now - 86_400]
            tokens.append(token)
        return token

    def minted(self) -> list[Token]:
        """Return all registered tokens, to search for their passwords where they must not appear."""
        with self._lock:
            return [token for tokens in self._tokens.values() for token in tokens]

    def check(self, *, warehouse: str, user: str, password: str, database: str) -> Token:
        """Return the token of this login, or raise `TokenRefusedError` with Redshift's message."""
        refused = TokenRefusedError(f'password authentication failed for user "{user}"')
        with self._lock:
            tokens = list(self._tokens.get((warehouse, user), ()))
        token = next((t for t in tokens if hmac.compare_digest(t.password.encode(), password.encode())), None)
        if token is None:
            raise refused
        if token.expires_at is not None and token.expires_at <= self._clock():
            raise refused
        if token.database is not None and token.database != database:
            raise refused
        return token


def _redshift_like_password() -> str:
    # Redshift's passwords are some hundred base64 characters; "+", "/" and "=" must be escaped in a URI.
    return f"{secrets.token_urlsafe(40)}+/=={secrets.token_urlsafe(40)}="
