"""The Connection of a task that keeps it for hours: before its password expires, it looks up the next one.

Airflow's hooks look their Connection up once, and log in with it each time they connect. So a task gets a Connection of the
class that Airflow asked for, in which `login` and `password` are looked up again when they are read and the credential is
due. Besides them only the `description` changes, which describes them. A copy keeps the credential of that moment, and so does
whatever leaves the process (a pickle, a URI, JSON), which is a plain Connection.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sys
import time
from collections.abc import Callable
from threading import get_ident
from typing import Any

from redshift_secrets.airflow import masking, supervisor
from redshift_secrets.model import ConnectionFields, reveal

LOGIN_PASSWORD_PAIR_SECONDS = 60
"""Every client reads `login` first and `password` right after it. So for that long a thread gets the password that belongs to
the login it read, which is valid for `min_validity_seconds` more than it is returned."""


class Renewal:
    """How to get the next credential: `refresh` looks the fields up or raises, `now` returns seconds since the epoch, `monotonic`
    seconds on a clock that is never set back.

    `valid_until` is when that is due, in seconds since the epoch; `None` where nothing expires. `read` has, by thread, when
    it last read a login, and the password that belongs to it.
    """

    __slots__ = ("due_at", "monotonic", "now", "read", "refresh", "valid_until")

    def __init__(
        self,
        refresh: Callable[[], ConnectionFields],
        now: Callable[[], float],
        valid_until: float | None,
        monotonic: Callable[[], float],
    ) -> None:
        self.refresh = refresh
        self.now = now
        self.monotonic = monotonic
        self.valid_until = valid_until
        self.due_at = None if valid_until is None else monotonic() + valid_until - now()
        self.read: dict[int, tuple[float, str | None]] = {}

    def is_due(self) -> bool:
        """Whether the credential is no longer returned."""
        if self.valid_until is None or self.due_at is None:
            return False
        return self.now() >= self.valid_until or self.monotonic() >= self.due_at

    def is_reading(self) -> bool:
        """Whether this thread has just read a login and is about to read the password."""
        begun, _ = self.read.get(get_ident(), (None, None))
        return begun is not None and 0 <= self.now() - begun < LOGIN_PASSWORD_PAIR_SECONDS


def attach(
    connection: Any,
    refresh: Callable[[], ConnectionFields] | None = None,
    now: Callable[[], float] = time.time,
    valid_until: float | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Let a Connection renew itself from `valid_until` on, see `Renewal`, and have a `repr` without secrets, where it is of the
    class of tasks: an `attrs` class. Without `refresh` it never renews itself; before Airflow 3.2 it has slots, and cannot.

    That of the server is an SQLAlchemy table, and a subclass of it would be one too.
    """
    if not hasattr(connection, "__attrs_attrs__"):
        if _WAITS_FOR_ITSELF in sys.modules:
            connection.get_extra_dejson = functools.partial(_extra, connection)
        return
    if not hasattr(connection, "__dict__"):
        connection.__class__ = _quiet_class(type(connection))  # type: ignore[arg-type]  # a class is hashable
    else:
        connection.__class__ = _renewing_class(type(connection))  # type: ignore[arg-type]  # a class is hashable
        connection.__dict__["_renewal"] = (
            None if refresh is None or valid_until is None else Renewal(refresh, now, valid_until, monotonic)
        )


def without_renewal(connection: Any) -> Any:
    """Return `connection` with its renewal turned off; anything else unchanged."""
    if isinstance(getattr(connection, "_renewal", None), Renewal):
        connection.__dict__["_renewal"] = None
    return connection


@functools.cache
def _renewing_class(base: type[Any]) -> type[Any]:
    class Renewing(base):  # type: ignore[misc]
        def _renewed(self) -> dict[str, Any]:
            renewal: Renewal | None = self.__dict__.get("_renewal")
            if renewal is None or not renewal.is_due():
                # One copy, since another thread may renew at any moment.
                return self.__dict__.copy()
            # It may raise, so no variable has the last password, which is still valid: tools print those of a traceback.
            fields = renewal.refresh()
            following = Renewal(renewal.refresh, renewal.now, fields.valid_until, renewal.monotonic)
            following.read = renewal.read
            password = None if fields.password is None else reveal(fields.password)
            new = {"login": fields.login, "password": password, "description": fields.description}
            self.__dict__.update(new, _renewal=following)
            return {**self.__dict__, **new, "_renewal": following}

        def _read_login(self) -> Any:
            held = self._renewed()
            renewal: Renewal | None = held.get("_renewal")
            if renewal is not None:
                renewal.read[get_ident()] = renewal.now(), held.get("password")
            return held.get("login")

        def _read_password(self) -> Any:
            renewal: Renewal | None = self.__dict__.get("_renewal")
            if renewal is not None and renewal.is_reading():
                return renewal.read[get_ident()][1]
            return self._renewed().get("password")

        def _keep(self, name: str, value: str | None) -> None:
            # A user or password that somebody sets stays.
            self.__dict__.update({name: value, "_renewal": None})

        login = property(_read_login, lambda self, value: self._keep("login", value))
        password = property(_read_password, lambda self, value: self._keep("password", value))

        def _held(self) -> dict[str, Any]:
            return {name: value for name, value in self.__dict__.items() if name != "_renewal"}

        def __reduce__(self) -> tuple[Any, ...]:
            self._renewed()
            # The reader need not have this package.
            return functools.partial(base, **self._held()), ()  # type: ignore[misc]

        def __eq__(self, other: object) -> bool:
            if not isinstance(other, base):
                return NotImplemented
            return self._held() == {name: value for name, value in vars(other).items() if name != "_renewal"}

        __hash__ = None  # type: ignore[assignment]  # as that of `base`, which can be changed

        def __rich_repr__(self) -> list[tuple[str, Any]]:
            return _without_secrets(self._held())

        __repr__ = _repr
        __copy__ = __deepcopy__ = _copy

    return _named_as(base, Renewing)


@functools.cache
def _quiet_class(base: type[Any]) -> type[Any]:
    class Quiet(base):  # type: ignore[misc]
        __slots__ = ()

        @property
        def extra_dejson(self) -> dict[str, Any]:
            return _extra_on_event_loop(self) if supervisor.runs_event_loop() else super().extra_dejson

        def _held(self) -> dict[str, Any]:
            return {each.name: getattr(self, each.name) for each in base.__attrs_attrs__}

        def __reduce__(self) -> tuple[Any, ...]:
            return functools.partial(base, **self._held()), ()  # type: ignore[misc]

        def __rich_repr__(self) -> list[tuple[str, Any]]:
            return _without_secrets(self._held())

        __repr__ = _repr
        __copy__ = __deepcopy__ = _copy

    return _named_as(base, Quiet)


_WAITS_FOR_ITSELF = "airflow.sdk.execution_time.secrets_masker"
"""In Airflow 3.0, whoever reads `extra` has the supervisor mask what is named like a secret. On a trigger's event loop that would
wait for itself, and fails."""


def _extra(connection: Any, nested: bool = False) -> Any:
    """Return what `get_extra_dejson` of the server's class does, on an event loop too."""
    if supervisor.runs_event_loop():
        return _extra_on_event_loop(connection, nested)
    return type(connection).get_extra_dejson(connection, nested)


def _extra_on_event_loop(connection: Any, nested: bool = False) -> dict[str, Any]:
    extra: dict[str, Any] = json.loads(connection.extra or "{}")
    for name, value in extra.items() if nested else ():
        with contextlib.suppress(TypeError, ValueError):
            extra[name] = json.loads(value)
    for masker in masking.maskers():
        masker.add_mask(extra)
    return extra


def _without_secrets(fields: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in fields.items() if name not in ("password", "extra")]


def _repr(connection: Any) -> str:
    # rich asks for the fields alone: it would show all of them that an `attrs` class has.
    return f"Connection({', '.join(f'{name}={value!r}' for name, value in connection.__rich_repr__())})"


def _copy(connection: Any, _memo: object = None) -> Any:
    make, fields = connection.__reduce__()
    made = make(*fields)
    attach(made)  # its `repr` shows no more than that of the first one
    return made


def _named_as(base: type[Any], made: type[Any]) -> type[Any]:
    # Airflow stores the class of a value (XCom): it is to load the one that exists everywhere.
    made.__module__, made.__name__, made.__qualname__ = base.__module__, base.__name__, base.__qualname__
    return made
