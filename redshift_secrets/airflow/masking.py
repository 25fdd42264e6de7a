"""Registers passwords with Airflow's secrets maskers, and takes expired ones out again.

At each registration Airflow compiles one pattern of every secret that the process has ever registered. A process that
runs for weeks would spend seconds in that with the interpreter locked, and milliseconds on each log line. So a password is added
in all its forms without a pattern, which would take most of a first lookup to compile, and leaves when it has expired.
https://airflow.apache.org/docs/apache-airflow/stable/security/secrets/mask-sensitive-values.html
"""

from __future__ import annotations

import base64
import functools
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from redshift_secrets.airflow.configuration import importable
from redshift_secrets.cache import forks
from redshift_secrets.cache.store import CLOCKS_DIFFER_SECONDS
from redshift_secrets.model import HiddenMapping, reveal
from redshift_secrets.settings import Settings

# In order: the first line of which anything can be imported is the one of this Airflow.
_MASKERS = (
    # 3.1 and newer: server code and task code have one each; Airflow itself registers the password with the task's supervisor
    ("airflow._shared.secrets_masker", "airflow.sdk._shared.secrets_masker"),
    ("airflow.sdk.execution_time.secrets_masker",),  # 3.0
    ("airflow.utils.log.secrets_masker",),  # 2.11
)


_MIN_LENGTH = 5
"""Shorter texts are not masked, as in Airflow's `[logging] min_length_masked_secret`: they are parts of other words."""


_BOTH_QUOTES = "'\""
_IN_HTML_SAFE_JSON = {ord(mark): f"\\u{ord(mark):04x}" for mark in "<>&'"}


def maskers() -> list[Any]:
    """Return every `SecretsMasker` of this process.

    Not through `mask_secret`, which in 3.0 also writes to the supervisor, on a channel for the thread of the task alone.
    Raises `ImportError` where this Airflow has none, since a password must not exist where logs cannot be masked.
    """
    return [module._secrets_masker() for module in _modules(_MASKERS)]


@functools.cache
def _modules(known: tuple[tuple[str, ...], ...]) -> list[Any]:
    modules = next(filter(None, (importable(*names) for names in known)), None)
    if modules is None:
        raise ImportError(f"this Airflow has no secrets masker that redshift-secrets knows; looked for {known}")
    return modules


def forms(secret: str) -> frozenset[str]:
    """Return the texts in which a plain text is printed that is secret: as it is, in URIs and in URIs that these are a parameter of,
    in JSON and in JSON that is a text of JSON, in a `repr`, quoted for a shell or for SQL, in hexadecimal digits, and within base64.

    Base64 of a longer text that contains the secret has it in one of three alignments, without the characters at both ends that
    also depend on what is next to it. How a `repr` quotes depends on the quotes that are next to it.
    """
    # Each of these is made of the one before: `urllib` would take most of the time of this for them.
    in_uri = quote(secret, safe="")
    in_path = in_uri.replace("%2F", "/")  # `quote`
    in_sqlalchemy_url = in_uri.replace("%20", " ").replace("%2B", "+")
    in_old_sqlalchemy_url = secret.translate({ord(mark): f"%{ord(mark):X}" for mark in ":@/"})  # SQLAlchemy 1.4
    first, *others = in_uri.split("%")
    in_json = json.dumps(secret)[1:-1]
    found = {
        secret,
        in_uri,
        in_path,
        in_sqlalchemy_url,
        in_old_sqlalchemy_url,
        in_uri.replace("%20", "+"),  # `quote_plus`
        # Each of them quoted again.
        in_uri.replace("%", "%25"),
        in_path.replace("%", "%25"),
        in_path.replace("%", "%25").replace("/", "%2F"),
        in_sqlalchemy_url.replace("%", "%25").replace("+", "%2B").replace(" ", "%20"),
        in_uri.replace("%2F", "%252F").replace("%3A", "%253A").replace("%40", "%2540"),
        "%".join([first, *(f"{each[:2].lower()}{each[2:]}" for each in others)]),
        in_json,
        in_json.translate(_IN_HTML_SAFE_JSON),  # Jinja's `tojson`
        in_json.replace("/", "\\/"),  # that of pandas
        repr(f'{in_json}"')[1:-2],
        json.dumps(in_json)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        repr(f"{secret}{_BOTH_QUOTES}")[1:-4],
        repr(secret.encode())[2:-1],
        repr(f"{secret}{_BOTH_QUOTES}".encode())[2:-4],
        secret.replace("'", "'\"'\"'"),  # `shlex.quote`
        secret.replace("'", "'\\''"),  # `set -x` of a shell
        secret.replace("'", "''"),  # in SQL
        secret.encode().hex(),
    }
    in_base64 = {base64.b64encode(secret.encode()).decode()}
    for text in {secret, in_uri, in_path, in_sqlalchemy_url, in_old_sqlalchemy_url}:
        for before, cut in enumerate((0, 2, 3)):
            content = bytes(before) + text.encode()
            in_base64.add(base64.b64encode(content).decode()[cut : len(content) * 8 // 6])
    found |= in_base64 | {form.replace("+", "-").replace("/", "_") for form in in_base64}
    return frozenset(form for form in found if len(form) >= _MIN_LENGTH)


class _Replacer:
    """Stands where a masker has its compiled pattern: substitutes what that matches, then each form of this backend's secrets."""

    def __init__(self, of_airflow: Any, forms: Iterable[str] = ()) -> None:
        self.of_airflow = of_airflow
        # The longest first: a shorter one may be part of it.
        self.forms = sorted(forms, key=len, reverse=True)

    def sub(self, replacement: str, text: str) -> str:
        """Return `text` with every secret replaced."""
        if self.of_airflow is not None:
            text = self.of_airflow.sub(replacement, text)
        for form in self.forms:
            text = text.replace(form, replacement)
        return text


def _set_forms(masker: Any, forms: Iterable[str]) -> None:
    """Have `masker` mask these forms, and no others of this backend."""
    replacer = masker.replacer
    if not isinstance(replacer, _Replacer):
        masker.__dict__["replacer"] = replacer
        masker.__class__ = _extended(type(masker))  # type: ignore[arg-type]  # a class is hashable
    masker.__dict__["replacer"] = _Replacer(getattr(replacer, "of_airflow", replacer), forms)


@functools.cache
def _extended(masker_class: type[Any]) -> type[Any]:
    class SecretsMasker(masker_class):  # type: ignore[misc]
        """Airflow's masker, which keeps the forms when Airflow compiles a pattern, and takes a task's `message` without one."""

        @property
        def replacer(self) -> Any:
            return self.__dict__["replacer"]

        @replacer.setter
        def replacer(self, compiled: Any) -> None:
            self.__dict__["replacer"] = _Replacer(compiled, getattr(self.replacer, "forms", ()))

        def add_mask(self, secret: Any, name: str | None = None) -> None:
            if isinstance(secret, list) and secret[:1] == [_MARK]:
                _, expires_at, password, *_ = secret
                password_masker.add(password, float("inf") if expires_at is None else expires_at)
            else:
                super().add_mask(secret, name)

    SecretsMasker.__module__ = masker_class.__module__
    return SecretsMasker


_MARK = ""
"""The first item of a `message`. Airflow's own masker ignores it, and the number that follows."""


def message(password: str, expires_at: float) -> list[str | float | None]:
    """Return what a task sends to its supervisor for it to mask: the forms that Airflow's masker registers one by one, with what
    `_extended` needs to forget them again."""
    password = reveal(password)
    printed = forms(password) - {password}
    return [_MARK, None if expires_at == float("inf") else expires_at, password, *sorted(printed)]


class _Secret:
    """One registered secret: its forms, and when it expires."""

    def __init__(self, text: str, expires_at: float) -> None:
        self._text = text
        self.expires_at = expires_at
        self.forms = forms(text)

    def pattern(self, masker: Any) -> str:
        """Return the secret as `masker` keeps it: escaped by the library that it compiles with (`re2` in 2.11)."""
        library = getattr(sys.modules[type(masker).__module__], "re2", re)
        return str(library.escape(self._text))


class PasswordMasker:
    """Keeps the passwords of this process in its maskers until they expire. Safe among threads and forks.

    `clock` returns seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._registered: dict[str, _Secret] = {}

    def expires_at(self, password: str) -> float:
        """Return until when a password is masked, in seconds since the epoch; forever for one that is not registered."""
        known = self._registered.get(password)
        return float("inf") if known is None else known.expires_at

    def add(self, password: str, expires_at: float = float("inf")) -> None:
        """Mask `password` in logs from now on until `expires_at` (seconds since the epoch); raises as `maskers`."""
        password = reveal(password)
        if len(password) < _MIN_LENGTH:
            return
        with forks.no_fork_here, self._lock:  # a child never finds the lock taken
            known = self._registered.get(password)
            if known is not None:
                known.expires_at = max(known.expires_at, expires_at)
                if all(known.pattern(masker) in masker.patterns for masker in maskers()):
                    return
            # AWS may take a password for valid a little longer than this host's clock does.
            now = self._clock() - CLOCKS_DIFFER_SECONDS
            expired = [text for text, each in self._registered.items() if each.expires_at <= now]
            removed = [self._registered.pop(text) for text in expired]
            added = self._registered[password] = known or _Secret(password, expires_at)
            all_forms = {form for each in self._registered.values() for form in each.forms}
            for masker in maskers():
                # Airflow looks here before it compiles, and registers the password of every Connection itself.
                masker.patterns -= {each.pattern(masker) for each in removed}
                masker.patterns.add(added.pattern(masker))
                _set_forms(masker, all_forms)


password_masker = PasswordMasker()
"""That of this process."""
mask_password = password_masker.add


def _extend_masker_of_supervisor() -> None:
    for name in (name for names in _MASKERS for name in names if name.startswith("airflow.sdk.")):
        module: Any = sys.modules.get(name)
        if module is not None:
            masker = module._secrets_masker()
            if not isinstance(masker.replacer, _Replacer):
                _set_forms(masker, ())


# A supervisor forks the process of its task, which then tells it what to mask: here Airflow's masker would compile a pattern for
# each form, and keep it for as long as the supervisor runs other tasks. It takes no lock.
os.register_at_fork(before=_extend_masker_of_supervisor)

_NAMES_OF_SECRETS = (
    *(
        "access_key",
        "api_key",
        "apikey",
        "auth_header",
        "authorization",
        "bearer",
        "connection_string",
        "dsn",
        "keyfile_dict",
    ),
    *(
        "passphrase",
        "passwd",
        "password",
        "private_key",
        "secret",
        "service_account",
        "service_key",
        "token",
        "webhook_url",
    ),
)
"""What the name of a secret contains, as in Airflow's own list but for proxies: only passwords in their URLs are secret."""
_PASSWORD_IN_URL = r"://[^/@\s:]*:([^/@\s]+)@"


def secrets_in(settings: Settings) -> frozenset[str]:
    """Return the secret texts in the settings: the keys of the cache, passwords in URLs, and in `config`, `extra` and the
    arguments of fallbacks what is named like a secret."""
    found = {reveal(key) for key in settings.cache.key or ()}
    redis = settings.cache.redis_url
    if redis is not None:
        url = reveal(redis.client_url)
        options = parse_qs(urlsplit(url).query)
        found.update(_secret_texts([url, redis.sentinel_login, options]))
    for values in (settings.config, settings.extra, *(each.kwargs for each in settings.fallback)):
        found.update(_secret_texts(values))
    return frozenset(found)


def _secret_texts(value: object, is_secret: bool = False) -> Iterator[str]:
    if isinstance(value, (dict, HiddenMapping)):
        for name, each in value.items():
            yield from _secret_texts(each, is_secret or any(part in str(name).lower() for part in _NAMES_OF_SECRETS))
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _secret_texts(each, is_secret)
    elif isinstance(value, str):
        if is_secret:
            yield value
        for password in re.findall(_PASSWORD_IN_URL, value):
            yield from (password, unquote(password))
