"""For tasks that connect again after an hour, where the Connection cannot renew itself: see `renewing`."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from typing import Any, TypeVar

from redshift_secrets.airflow.connection import with_root_certificates

Hook = TypeVar("Hook")


def renewing(hook: Hook) -> Hook:
    """Make a hook ask Airflow for its Connection each time it connects, instead of once; returns the same hook.

        hook = renewing(RedshiftSQLHook("analytics"))

    `hook` is any `DbApiHook` (`RedshiftSQLHook`, `PostgresHook`, that of `SQLExecuteQueryOperator`). An engine made by
    its `get_sqlalchemy_engine` also logs in with what Airflow answers at that moment, not with what it was created with, and
    checks the server's certificate as `sslmode` of the Connection says. An answer costs a lookup: memory on a worker that
    resolves itself, else one request to the API server; AWS is only asked where the credential is due. Raises `TypeError` for
    anything else.
    """
    if not hasattr(hook, "conn_name_attr") or not hasattr(hook, "get_conn"):
        raise TypeError(f"renewing() takes a hook for a database (a DbApiHook), not a {type(hook).__name__}")
    held: Any = hook
    for name in ("get_conn", "get_uri"):
        setattr(held, name, _with_fresh_connection(held, getattr(held, name)))
    held.get_sqlalchemy_engine = _with_fresh_credentials(held, _with_fresh_connection(held, held.get_sqlalchemy_engine))
    return hook


def _with_fresh_connection(hook: Any, connect: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(connect)
    def with_fresh_connection(*args: Any, **kwargs: Any) -> Any:
        # Hooks keep their Connection in one of these. `conn` of a PostgresHook is something else, a connection of the
        # driver.
        hook._connection = None
        if isinstance(inspect.getattr_static(type(hook), "conn", None), functools.cached_property):
            vars(hook).pop("conn", None)
        return connect(*args, **kwargs)

    return with_fresh_connection


def _check_server(extra: dict[str, Any], parameters: dict[str, Any]) -> None:
    """Have libpq check the server as the Connection asks for. The hooks leave that out: PostgresHook gives no `extra` to its
    engine, and that of RedshiftSQLHook has no root certificates, which its other driver does not take."""
    if "sslmode" in extra:
        wanted = with_root_certificates("postgres", {**extra, **parameters}, os.environ)
        parameters.update({name: wanted[name] for name in ("sslmode", "sslrootcert") if name in wanted})


def _with_fresh_credentials(hook: Any, make_engine: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(make_engine)
    def engine(*args: Any, **kwargs: Any) -> Any:
        from sqlalchemy import event

        made = make_engine(*args, **kwargs)

        # https://docs.sqlalchemy.org/en/20/core/engines.html#generating-dynamic-authentication-tokens
        @event.listens_for(made, "do_connect")
        def log_in(_dialect: Any, _record: Any, _args: Any, parameters: dict[str, Any]) -> None:
            connection = hook.get_connection(getattr(hook, hook.conn_name_attr))
            if connection.password is not None:  # without one, the engine does not log in from the Connection
                parameters.update(user=connection.login, password=connection.password)
            if made.driver in ("psycopg", "psycopg2"):
                _check_server(connection.extra_dejson, parameters)

        return made

    return engine
