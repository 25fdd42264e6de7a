"""Registers passwords with Airflow's secrets maskers, and takes expired ones out again.

At each registration Airflow compiles one pattern of every secret that the process has ever registered. A process that
runs for weeks would spend seconds in that with the interpreter locked, and milliseconds on each log line. So a password is added
in all its forms at once, without a pattern, which would take most of a first lookup to compile, and leaves when it has expired.
https://airflow.apache.org/docs/apache-airflow/stable/security/secrets/mask-sensitive-values.html
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote, quote_plus

from redshift_secrets.airflow.configuration import importable
from redshift_secrets.cache import forks
from redshift_secrets.cache.store import CLOCKS_DIFFER_SECONDS

# In order: the first line of which anything can be imported is the one of this Airflow.
_MASKERS = (
    # 3.1 and newer: server code and task code have one each; Airflow itself registers the password with the task's supervisor
    ("airflow._shared.secrets_masker", "airflow.sdk._shared.secrets_masker"),
    ("airflow.sdk.execution_time.secrets_masker",),  # 3.0
    ("airflow.utils.log.secrets_masker",),  # 2.11
)


_MIN_LENGTH = 5
"""Shorter texts are not masked, as in Airflow's `[logging] min_length_masked_secret`: they are parts of other words."""


def maskers() -> list[Any]:
    """Return every `SecretsMasker` of this process.

    Not through `mask_secret`, which in 3.0 also writes to the supervisor, on a channel for the thread of the task alone.
    Raises `ImportError` where this Airflow has none, since a password must not exist where logs cannot be masked.
    """
    modules = next(filter(None, (importable(*names) for names in _MASKERS)), None)
    if modules is None:
        raise ImportError(f"this Airflow has no secrets masker that redshift-secrets knows; looked for {_MASKERS}")
    return [module._secrets_masker() for module in modules]


class _Replacer:
    """Stands where a masker has its compiled pattern: substitutes what that matches, then each password of this backend.

    When Airflow registers a secret of its own, it compiles one pattern of all of them again and puts that here.
    """

    def __init__(self, of_airflow: Any, forms: Iterable[str]) -> None:
        self.of_airflow = of_airflow
        # The longest first: a shorter one may be part of it.
        self._forms = sorted(forms, key=len, reverse=True)

    def sub(self, replacement: str, text: str) -> str:
        """Return `text` with every secret replaced."""
        if self.of_airflow is not None:
            text = self.of_airflow.sub(replacement, text)
        for form in self._forms:
            text = text.replace(form, replacement)
        return text


class _Password:
    """One registered password: its forms, and when it expires."""

    def __init__(self, password: str, expires_at: float) -> None:
        self.expires_at = expires_at
        # As it is, as a URI has it (`quote` both ways, `quote_plus`), and as SQLAlchemy's URLs do.
        self.forms = frozenset(
            {password, quote(password), quote(password, safe=""), quote_plus(password), quote(password, safe=" +")}
        )

    def patterns(self, masker: Any) -> frozenset[str]:
        """Return the forms as `masker` keeps them: escaped by the library that it compiles with (`re2` in 2.11)."""
        library = getattr(sys.modules[type(masker).__module__], "re2", re)
        return frozenset(map(library.escape, self.forms))


class PasswordMasker:
    """Keeps the passwords of this process in its maskers until they expire. Safe among threads and forks.

    `clock` returns seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._registered: dict[str, _Password] = {}

    def add(self, password: str, expires_at: float) -> None:
        """Mask `password` in logs from now on until `expires_at` (seconds since the epoch); raises as `maskers`."""
        if len(password) < _MIN_LENGTH:
            return
        with forks.no_fork_here, self._lock:  # a child never finds the lock taken
            known = self._registered.get(password)
            if known is not None:
                known.expires_at = max(known.expires_at, expires_at)
                if all(known.patterns(masker) <= masker.patterns for masker in maskers()):
                    return
            # AWS may take a password for valid a little longer than this host's clock does.
            now = self._clock() - CLOCKS_DIFFER_SECONDS
            expired = [text for text, each in self._registered.items() if each.expires_at <= now]
            removed = [self._registered.pop(text) for text in expired]
            added = self._registered[password] = known or _Password(password, expires_at)
            forms = {form for each in self._registered.values() for form in each.forms}
            for masker in maskers():
                for each in removed:
                    masker.patterns -= each.patterns(masker)
                # Airflow looks here before it compiles: a form that is known costs it nothing.
                masker.patterns |= added.patterns(masker)
                before = masker.replacer
                of_airflow = before.of_airflow if isinstance(before, _Replacer) else before
                masker.replacer = _Replacer(of_airflow, forms)


mask_password = PasswordMasker().add
"""Masks a password in the logs of this process, until it expires."""
