"""What the simulated AWS has minted, so that the gateway lets in nobody else.

The simulated AWS writes (`TokenRegistry.mint`), the gateway reads (`TokenRegistry.check`). Real Redshift keeps
the same secret between its control plane and its leader node.
"""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field


class TokenRefusedError(Exception):
    """A login that Redshift would refuse; the message is the one Redshift sends to the client."""


@dataclass(frozen=True)
class Token:
    """One login that is allowed for a while.

    `user` is the name as AWS returned it (`IAM:etl`, `IAMA:etl`, `IAMR:role`), `role` the database role it becomes.
    `expires_at` is in seconds since the epoch; `None` for an admin password, which lives until it is changed.
    """

    warehouse: str
    user: str
    role: str
    password: str = field(repr=False)
    expires_at: float | None
    database: str | None = None
    db_groups: tuple[str, ...] = ()
    auto_create: bool = False


class TokenRegistry:
    """Every token handed out, by warehouse and user. Safe among threads.

    `clock` returns seconds since the epoch; tests pass one they can move.
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
        auto_create: bool = False,
        password: str | None = None,
    ) -> Token:
        """Remember and return a token for `user` on the warehouse with this ARN, good for `duration` seconds.

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
            auto_create=auto_create,
        )
        with self._lock:
            tokens = self._tokens.setdefault((warehouse, user), [])
            # Long-dead tokens are forgotten, young dead ones kept: the gateway tells "expired" from "wrong".
            tokens[:] = [t for t in tokens if t.expires_at is None or t.expires_at > now - 86_400]
            tokens.append(token)
        return token

    def minted(self) -> list[Token]:
        """Return every token that is remembered, to look whether its password has got anywhere."""
        with self._lock:
            return [token for tokens in self._tokens.values() for token in tokens]

    def check(self, *, warehouse: str, user: str, password: str, database: str) -> Token:
        """Return the token that lets `user` in, or raise `TokenRefusedError` with Redshift's own words."""
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
    # Redshift's tokens are base64 text of some hundred characters: "+", "/" and "=" must survive every URI.
    return f"{secrets.token_urlsafe(40)}+/=={secrets.token_urlsafe(40)}="
