"""The Connection of a task that keeps it for hours: before its password dies, it looks up the next one.

Airflow's hooks look their Connection up once, and log in with it each time they connect. So what a task gets is a
Connection of the class Airflow asked for, in which `login` and `password` are looked up again when they are read and what
is there is no longer good. Besides them only the `description` changes, which tells of them. Whatever leaves the process (a
pickle, a URI, JSON, a deep copy) is a plain Connection with the credential of that moment.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from threading import get_ident
from typing import Any

from redshift_secrets.model import ConnectionFields

LOGIN_PASSWORD_PAIR_SECONDS = 60
"""Every client reads `login` first and `password` right after it. So a thread gets the password that belongs to the login it
read, for that long; it lives `min_validity_seconds` more than it is handed out."""


class Renewal:
    """How the next credential is had: `ask` looks the fields up or raises, `now` tells seconds since the epoch.

    `valid_until` is when it has to be, in seconds since the epoch; `None` where nothing dies. `read` has, by thread, when
    it last read a login, and the password that belongs to that.
    """

    __slots__ = ("ask", "now", "read", "valid_until")

    def __init__(
        self, ask: Callable[[], ConnectionFields], now: Callable[[], float], valid_until: float | None
    ) -> None:
        self.ask = ask
        self.now = now
        self.valid_until = valid_until
        self.read: dict[int, tuple[float, str | None]] = {}

    def is_due(self) -> bool:
        """Whether the credential is no longer handed out."""
        return self.valid_until is not None and self.now() >= self.valid_until

    def is_reading(self) -> bool:
        """Whether this thread has just read a login and is about to read the password."""
        begun, _ = self.read.get(get_ident(), (None, None))
        return begun is not None and 0 <= self.now() - begun < LOGIN_PASSWORD_PAIR_SECONDS


def can_renew(connection_class: type[Any]) -> bool:
    """Whether a Connection of this class can renew itself: the one of tasks can, and is a class of `attrs`.

    The one of the server is a table of SQLAlchemy, and so would be a subclass of it.
    """
    return hasattr(connection_class, "__attrs_attrs__")


def attach(connection: Any, renewal: Renewal) -> None:
    """Let a Connection whose class `can_renew` renew itself from now on."""
    connection.__class__ = _renewing_class(type(connection))  # type: ignore[arg-type]  # a class is hashable
    connection.__dict__["_renewal"] = renewal


def without_renewal(connection: Any) -> Any:
    """Return `connection`, which stays as it is from now on; anything else as it is."""
    if isinstance(getattr(connection, "_renewal", None), Renewal):
        connection.__dict__["_renewal"] = None
    return connection


@functools.cache
def _renewing_class(base: type[Any]) -> type[Any]:
    class Renewing(base):  # type: ignore[misc]
        def _renewed(self) -> dict[str, Any]:
            # One copy, since another thread may renew at any moment.
            held = self.__dict__.copy()
            renewal: Renewal | None = held.get("_renewal")
            if renewal is None or not renewal.is_due():
                return held
            fields = renewal.ask()
            following = Renewal(renewal.ask, renewal.now, fields.valid_until)
            following.read = renewal.read
            new = {"login": fields.login, "password": fields.password, "description": fields.description}
            self.__dict__.update(new, _renewal=following)
            return {**held, **new, "_renewal": following}

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
            # Whoever sets a user or a password of their own means it.
            self.__dict__.update({name: value, "_renewal": None})

        login = property(_read_login, lambda self, value: self._keep("login", value))
        password = property(_read_password, lambda self, value: self._keep("password", value))

        def _held(self) -> dict[str, Any]:
            return {name: value for name, value in self.__dict__.items() if name != "_renewal"}

        def __reduce__(self) -> tuple[Any, ...]:
            self._renewed()
            # Who reads it need not have this package.
            return functools.partial(base, **self._held()), ()  # type: ignore[misc]

        def __eq__(self, other: object) -> bool:
            if not isinstance(other, base):
                return NotImplemented
            return self._held() == {name: value for name, value in vars(other).items() if name != "_renewal"}

        __hash__ = None  # type: ignore[assignment]  # as that of `base`, which can be changed

        def __repr__(self) -> str:
            shown = {name: value for name, value in self._held().items() if name not in ("password", "extra")}
            return f"Connection({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    # Airflow writes down what class a value is of (XCom): it is to read back the one that everybody knows.
    Renewing.__module__, Renewing.__name__, Renewing.__qualname__ = base.__module__, base.__name__, base.__qualname__
    return Renewing
