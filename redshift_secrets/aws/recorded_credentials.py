"""Which keys a call to AWS was signed with."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from typing import Any, NamedTuple

from botocore.exceptions import InvalidConfigError

from redshift_secrets.aws.credential_errors import CREDENTIAL_SOURCES, credential_errors
from redshift_secrets.aws.exchanges import Exchange, exchanges
from redshift_secrets.errors import copy_for_reraise

RETRY_SECONDS = 5.0
"""How long credentials that could not be had are not asked for again."""

_KEYS = {"access_key": "access key ID", "secret_key": "secret access key", "token": "session token"}


class _Failure(NamedTuple):
    """Why there are no keys, the request that says so, and until when nobody asks again (seconds on the monotonic clock)."""

    error: Exception
    exchange: Exchange | None
    until: float


class RecordedCredentials:
    """Credentials of botocore that record which keys a call is signed with: they may be replaced at any moment, by those of
    another identity.

    Where they have to be renewed, one thread does it for all, and the others get its keys or its error: botocore would ask a silent
    metadata service, or for a role, again for each call.
    """

    monotonic = staticmethod(time.monotonic)

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials
        self._thread = threading.local()
        self._latest: Any = None
        self._renewing = threading.Lock()
        self._failure: _Failure | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._credentials, name)

    def get_frozen_credentials(self) -> Any:
        """Return the keys to sign a call with; botocore asks for them in the thread that makes the call. Raises botocore's
        `InvalidConfigError` for what cannot be keys."""
        with self._renewing if self._must_renew() else contextlib.nullcontext():
            keys = self._renewed()
        _check(keys, self._credentials.method)
        self._latest = self._thread.keys = keys
        return keys

    @property
    def used(self) -> Any:
        """The keys that this thread has last signed with, `None` where it has not."""
        return getattr(self._thread, "keys", None)

    @property
    def current(self) -> Any:
        """The last keys of any thread, `None` where they have expired. No call is made for others."""
        refresh_needed = getattr(self._credentials, "refresh_needed", None)
        return None if refresh_needed is not None and refresh_needed(refresh_in=0) else self._latest

    def _must_renew(self) -> bool:
        """Whether botocore gives no keys without new ones."""
        refresh_needed = getattr(self._credentials, "refresh_needed", None)
        soon = getattr(self._credentials, "_mandatory_refresh_timeout", 0)
        return refresh_needed is not None and bool(refresh_needed(refresh_in=soon))

    def _renewed(self) -> Any:
        failure = self._failure
        if failure is not None and self.monotonic() < failure.until and self._must_renew():
            exchanges.repeat(failure.exchange)
            raise copy_for_reraise(failure.error)
        method = self._credentials.method
        try:
            with exchanges.search(CREDENTIAL_SOURCES.get(method, method)), credential_errors(method):
                keys = self._credentials.get_frozen_credentials()
        except Exception as error:
            self._failure = _Failure(error, exchanges.last, self.monotonic() + RETRY_SECONDS)
            raise
        self._failure = None
        return keys


def _check(keys: Any, method: str) -> None:
    for name, what in _KEYS.items():
        key = getattr(keys, name)
        if not key:
            wrong = None if name == "token" else "is missing"  # long-term credentials have none
        elif not isinstance(key, str):
            wrong = "is no text"
        else:
            # A secret that was made with its line break is a common mistake, which looks like a network without a connection.
            is_key = re.fullmatch("[!-~]*", key)
            wrong = None if is_key else "has a space, a line break or another character in it that no key has"
        if wrong is not None:
            raise InvalidConfigError(error_msg=f"the {what} of the AWS credentials from {method} {wrong}")
