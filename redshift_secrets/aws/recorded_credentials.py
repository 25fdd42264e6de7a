"""Which keys a call to AWS was signed with."""

from __future__ import annotations

import threading
from typing import Any

from redshift_secrets.aws.errors import credential_errors


class RecordedCredentials:
    """Credentials of botocore that record which keys a call is signed with: they may be replaced at any moment, by those of
    another identity."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials
        self._thread = threading.local()
        self._latest: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._credentials, name)

    def get_frozen_credentials(self) -> Any:
        """Return the keys to sign a call with; botocore asks for them in the thread that makes the call."""
        with credential_errors():
            self._latest = self._thread.keys = self._credentials.get_frozen_credentials()
        return self._latest

    @property
    def used(self) -> Any:
        """The keys that this thread has last signed with, `None` where it has not."""
        return getattr(self._thread, "keys", None)

    @property
    def current(self) -> Any:
        """The last keys of any thread, `None` where they have expired. No call is made for others."""
        refresh_needed = getattr(self._credentials, "refresh_needed", None)
        return None if refresh_needed is not None and refresh_needed(refresh_in=0) else self._latest
