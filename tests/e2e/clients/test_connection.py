"""The Connection itself, found through Airflow's own lookup, and the page about its clients."""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Iterator

import pytest
from airflow.sdk.definitions.connection import Connection

from redshift_secrets.local.stand_in import StandIn
from tests.e2e import clients
from tests.e2e.clients.rows import TABLE


def test_airflow_finds_the_connection_and_masks_its_password(caplog: pytest.LogCaptureFixture) -> None:
    from airflow.sdk._shared.secrets_masker import redact

    connection = Connection.get("analytics")
    assert connection.conn_type == "redshift"
    assert connection.login == "IAM:etl"
    assert redact(f"it is {connection.password}") == "it is ***"
    again = Connection.from_uri(connection.get_uri(), conn_id="analytics")
    assert (again.password, again.login, again.host) == (connection.password, connection.login, connection.host)


@pytest.mark.attempt("read a password in logs, XCom, rendered fields, the metadata database, stores, environ or ps")
def test_no_password_in_any_log_at_debug_level(running: StandIn) -> None:
    seen: list[str] = []

    class Everything(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(self.format(record))

    handler, root = Everything(), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        connection = Connection.get("analytics")
    finally:
        root.setLevel(before)
        root.removeHandler(handler)
    assert any("botocore" in line or "endpoint" in line for line in seen), "debug logging was not on"
    for token in running.tokens.minted():
        assert not any(token.password in line for line in seen)
    assert connection.password is not None


def marked() -> Iterator[str]:
    """Return the clients that tests are marked with."""
    for module in pkgutil.iter_modules(clients.__path__):
        if module.name.startswith("test_"):
            for each in vars(importlib.import_module(f"{clients.__name__}.{module.name}")).values():
                yield from (mark.args[0] for mark in getattr(each, "pytestmark", ()) if mark.name == "client")


def test_every_client_in_the_page_has_a_test_and_every_test_a_row() -> None:
    assert sorted(TABLE.shown()) == sorted(marked())
