"""The other secrets backends of a site, asked in order for what is not managed: connections, variables and configuration.

Airflow has room for one custom backend only; with these, a site keeps the ones it already has.
https://airflow.apache.org/docs/apache-airflow/stable/security/secrets/secrets-backend/index.html
"""

from __future__ import annotations

import importlib
import inspect
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from redshift_secrets.cache import get_logger
from redshift_secrets.settings import values
from redshift_secrets.settings.records import Fallback

log = get_logger(__name__)

_RETRY_SECONDS = 10.0

_constructing = threading.local()
"""Set while this thread constructs a fallback. Its constructor may read a configuration option that Airflow looks up in a
secrets backend: in a new instance of this one, which must not construct a fallback for that in turn."""


class Fallbacks:
    """Asks each backend in order; the first answer that is not `None` is the answer.

    A backend is imported and constructed when it is first needed. One that fails is reported once, with the kind of its
    error alone, since the text of somebody else's error may hold anything; the others are asked as if it had answered
    `None`. Only the exception that `authoritative` returns is passed on. `monotonic` gives seconds.
    """

    def __init__(
        self,
        fallbacks: Sequence[Fallback],
        authoritative: Callable[[], Callable[[str], Exception] | None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fallbacks = fallbacks
        self._authoritative = authoritative
        self._monotonic = monotonic
        # By position. Two threads that come first at the same time construct one too many, which costs nothing; a lock here could
        # wait for a thread that holds Python's import lock, and would have to be reset in the child of a fork.
        self._constructed: dict[int, Any] = {}
        self._failed_at: dict[int, float] = {}
        self._reported: set[tuple[str, str, str]] = set()

    def get_connection(self, conn_id: str, team_name: str | None, connection_class: Any) -> Any:
        """Return a Connection, of `connection_class` where Airflow has set one, or `None`."""

        def ask(backend: Any) -> Any:
            if connection_class is not None and hasattr(backend, "_set_connection_class"):
                backend._set_connection_class(connection_class)
            return _call(backend.get_connection, conn_id, team_name)

        return self._first(ask, "look up a connection")

    def get_variable(self, key: str, team_name: str | None) -> str | None:
        """Return a variable, or `None`."""
        value: str | None = self._first(lambda b: _call(b.get_variable, key, team_name), "look up a variable")
        return value

    def get_config(self, key: str) -> str | None:
        """Return a configuration option, or `None`."""
        value: str | None = self._first(lambda backend: backend.get_config(key), "look up configuration")
        return value

    def _first(self, ask: Callable[[Any], Any], doing: str) -> Any:
        for class_path, backend in self._backends():
            try:
                found = ask(backend)
            except Exception as error:
                final = self._authoritative()
                if isinstance(final, type) and isinstance(error, final):
                    raise
                self._report(class_path, doing, error)
            else:
                if found is not None:
                    return found
        return None

    def _backends(self) -> Iterator[tuple[str, Any]]:
        if getattr(_constructing, "now", False):
            return
        for position, fallback in enumerate(self._fallbacks):
            if position not in self._constructed and not self._construct(position, fallback):
                continue
            yield fallback.class_path, self._constructed[position]

    def _construct(self, position: int, fallback: Fallback) -> bool:
        failed_at = self._failed_at.get(position)
        if failed_at is not None and self._monotonic() - failed_at < _RETRY_SECONDS:
            return False
        _constructing.now = True
        try:
            module, _, name = fallback.class_path.rpartition(".")
            self._constructed[position] = getattr(importlib.import_module(module), name)(**fallback.kwargs)
        except Exception as error:
            self._failed_at[position] = self._monotonic()
            self._report(fallback.class_path, "be constructed", error)
            return False
        finally:
            _constructing.now = False
        return True

    def _report(self, class_path: str, doing: str, error: Exception) -> None:
        kind = type(error).__name__
        if (class_path, doing, kind) not in self._reported:
            self._reported.add((class_path, doing, kind))
            log.error(
                "the fallback %s could not %s (%s); it is skipped. Check its backend, its backend_kwargs and its permissions",
                class_path,
                doing,
                kind,
            )


def import_problems(fallbacks: Sequence[Fallback]) -> list[str]:
    """Return a sentence for each fallback whose class cannot be imported."""
    problems = []
    for fallback in fallbacks:
        module, _, name = fallback.class_path.rpartition(".")
        try:
            found = importlib.import_module(module)
        except Exception as error:
            why = f"no module {error.name!r}" if isinstance(error, ModuleNotFoundError) else type(error).__name__
            problems.append(f"setting fallback: {fallback.class_path} cannot be imported: {why}")
            continue
        if not hasattr(found, name):
            hint = values.nearest(name, vars(found))
            problems.append(f"setting fallback: {module} has no {name!r}{hint}")
    return problems


def _call(method: Callable[..., Any], key: str, team_name: str | None) -> Any:
    # Backends made before Airflow had teams do not take the argument.
    if team_name is None:
        return method(key)
    parameters = inspect.signature(method).parameters.values()
    takes_team = any(each.name == "team_name" or each.kind is each.VAR_KEYWORD for each in parameters)
    return method(key, team_name=team_name) if takes_team else method(key)
