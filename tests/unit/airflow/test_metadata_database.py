"""Connections in the metadata database, whose passwords are read only where they are asked for."""

from __future__ import annotations

import contextlib
import json
from types import SimpleNamespace

import pytest
from cryptography.fernet import Fernet

from redshift_secrets.airflow import metadata_database
from redshift_secrets.airflow.stored import StoredError
from redshift_secrets.model import reveal

pytestmark = pytest.mark.airflow

PLANTED = "pl@nted/pass word+=:?&#%é"
EXTRA = {"iam": True, "cluster_identifier": "prod", "timeout": 3, "aws_secret_access_key": PLANTED, "note": PLANTED}


def row(**fields):
    """A row of the metadata database, whose extra and password are not encrypted unless `fields` say so."""
    usual = {
        "conn_id": "analytics", "conn_type": "redshift", "host": "prod", "schema": "dwh", "login": "etl", "port": 5439,
        "extra": json.dumps(EXTRA), "is_extra_encrypted": False, "password": PLANTED, "is_encrypted": False,
        "has_password": True, "team_name": "finance",
    }  # fmt: skip
    return {**usual, **fields}


def test_a_row_of_the_database(monkeypatch: pytest.MonkeyPatch):
    key = Fernet.generate_key()
    monkeypatch.setattr(metadata_database.configuration, "fernet_keys", lambda: (key.decode(),))

    def sealed(text):
        return Fernet(key).encrypt(text.encode()).decode()

    encrypted = row(
        extra=sealed(json.dumps(EXTRA)), is_extra_encrypted=True, password=sealed(PLANTED), is_encrypted=True
    )
    for given in (row(), encrypted):
        found = metadata_database._connection(given, passwords=True)
        assert (found.host, found.team, found.extra["timeout"]) == ("prod", "finance", 3)
        assert reveal(found.password) == PLANTED
    without = {name: value for name, value in encrypted.items() if name not in ("password", "is_encrypted")}
    found = metadata_database._connection(without, passwords=False)
    assert (found.has_password, found.password, found.extra["note"]) == (True, None, None)
    monkeypatch.setattr(metadata_database.configuration, "fernet_keys", lambda: (Fernet.generate_key().decode(),))
    assert metadata_database._connection(without, passwords=False).problem == "[core] fernet_key does not decrypt it"
    monkeypatch.setattr(metadata_database.configuration, "fernet_keys", lambda: None)
    assert metadata_database._connection(without, passwords=False).problem == "[core] fernet_key does not decrypt it"
    assert metadata_database._connection(row(extra="[1]"), passwords=False).problem == "its extra is not a JSON object"


@pytest.mark.parametrize("odd", [{"port": "planted"}, {"port": float("inf")}, {"port": [1]}, {"extra": "[" * 5000}])
def test_an_odd_row_is_no_reason_to_leave_the_others(monkeypatch: pytest.MonkeyPatch, odd):
    monkeypatch.setattr(metadata_database, "_rows", lambda *_: [row(**odd, conn_id="odd"), row()])
    found, analytics = metadata_database.database_connections()
    assert (found.conn_id, found.conn_type, analytics.problem) == ("odd", "redshift", None)
    assert found.problem
    assert "planted" not in found.problem


@pytest.mark.attempt("read a stored password in what `migrate` prints")
def test_a_database_that_does_not_answer_is_one_sentence_without_its_password(monkeypatch: pytest.MonkeyPatch):
    def fail(*_arguments):
        raise RuntimeError(f"connection to postgres://me:{PLANTED}@db failed\nand more")

    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://me:pl%40nted@db/airflow")
    monkeypatch.setattr(metadata_database, "_rows", fail)
    with pytest.raises(StoredError) as caught:
        metadata_database.database_connections()
    text = str(caught.value)
    assert text.startswith("the metadata database (postgresql at db) cannot be read: RuntimeError: connection to")
    assert "and more" not in text
    assert "pl@nted" not in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg2://me:planted@db.corp:5432/airflow", "the metadata database (postgresql at db.corp:5432)"),
        ("mysql://me:planted@db.corp/airflow?password=planted", "the metadata database (mysql at db.corp)"),
        ("sqlite:////home/me/airflow.db", "the metadata database (sqlite)"),
        ("postgresql://me:planted@[db", "the metadata database of this Airflow"),
        ("postgresql://me:planted@db:planted/x", "the metadata database of this Airflow"),
    ],
)
def test_where_the_database_is_without_its_password(monkeypatch, url, shown):
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", url)
    assert metadata_database.database() == shown


def test_a_session_that_airflow_closes_at_the_end_is_not_in_use(monkeypatch: pytest.MonkeyPatch):
    """Airflow's own would be, while the database does not answer, and Python would print the error of that."""
    from airflow.models import Connection
    from airflow.utils import session
    from sqlalchemy import create_engine, insert
    from sqlalchemy.pool import StaticPool

    engine = create_engine("sqlite://", poolclass=StaticPool)
    Connection.__table__.create(engine)
    with engine.begin() as connection:
        connection.execute(insert(Connection.__table__).values(conn_id="analytics", conn_type="redshift"))

    @contextlib.contextmanager
    def create_session():
        yield SimpleNamespace(get_bind=lambda: engine)

    monkeypatch.setattr(session, "create_session", create_session)
    assert [each.conn_id for each in metadata_database.database_connections()] == ["analytics"]
    assert [each.conn_id for each in metadata_database.database_connections(["bi"])] == []
